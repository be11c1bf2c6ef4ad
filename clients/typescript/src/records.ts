/** What messages are made of: named records of arrays, metrics and settings, in order. */
import { Data, NDArray } from "./arrays.js";
import { recordError } from "./errors.js";

/** An integer is a `bigint` and a float is a `number`, as they are two types for the other side. */
export type MetricValue = number | bigint | number[] | bigint[];
type Scalar = number | bigint | string | boolean | Uint8Array;
export type ConfigValue = Scalar | number[] | bigint[] | string[] | boolean[] | Uint8Array[];

type Entries<V> = Iterable<readonly [string, V]> | { readonly [key: string]: V };

function entriesOf<V>(entries: Entries<V>): Iterable<readonly [string, V]> {
  return Symbol.iterator in entries ? (entries as Iterable<readonly [string, V]>) : Object.entries(entries);
}

/** Return a whole number as an integer of the wire: `int(data.length)`. */
export const int = (value: number): bigint => BigInt(value);

/** Arrays by name. Give pairs where a name looks like a number: objects put such keys first. */
export class ArrayRecord extends Map<string, NDArray> {
  readonly kind = "arrays";

  constructor(entries: Entries<NDArray> = []) {
    super(entriesOf(entries));
  }

  /** Return the array of this name, whose data must be of this type. */
  array<T extends Data>(name: string, type: new (...args: never[]) => T): NDArray<T> {
    const found = this.get(name);
    if (found === undefined) throw recordError(`there is no array ${JSON.stringify(name)}`);
    if (!(found.data instanceof type)) {
      throw recordError(`array ${JSON.stringify(name)} is ${found.dtype}, not in a ${type.name}`);
    }
    return found as NDArray<T>;
  }
}

/** Numbers by name, which strategies average. */
export class MetricRecord extends Map<string, MetricValue> {
  readonly kind = "metrics";

  constructor(entries: Entries<MetricValue> = []) {
    super(entriesOf(entries));
  }
}

/** Settings by name. */
export class ConfigRecord extends Map<string, ConfigValue> {
  readonly kind = "config";

  constructor(entries: Entries<ConfigValue> = []) {
    super(entriesOf(entries));
  }
}

export type RecordOfAnyKind = ArrayRecord | MetricRecord | ConfigRecord;

/** Records by name: the content of a message, or the state that a client keeps. */
export class RecordDict extends Map<string, RecordOfAnyKind> {
  constructor(entries: Entries<RecordOfAnyKind> = []) {
    super(entriesOf(entries));
  }

  /** Return the arrays of this name. */
  arrays(name = "arrays"): ArrayRecord {
    return this.#of(name, ArrayRecord);
  }

  /** Return the metrics of this name. */
  metrics(name = "metrics"): MetricRecord {
    return this.#of(name, MetricRecord);
  }

  /** Return the settings of this name. */
  config(name = "config"): ConfigRecord {
    return this.#of(name, ConfigRecord);
  }

  #of<R extends RecordOfAnyKind>(name: string, type: new () => R): R {
    const found = this.get(name);
    if (found instanceof type) return found;
    throw recordError(
      found ? `record ${JSON.stringify(name)} is no ${type.name}` : `there is no record ${JSON.stringify(name)}`,
      `there are: ${[...this.keys()].join(", ") || "none"}`,
    );
  }
}
