/** The content of a message as one safetensors file; docs/wire.md says how. */
import { NDArray, dtypeOfCode, sizeOf } from "./arrays.js";
import { protocolError, recordError } from "./errors.js";
import { type Json, parseJson, writeFloat, writeString } from "./json.js";
import { ArrayRecord, ConfigRecord, MetricRecord, RecordDict, type ConfigValue, type MetricValue } from "./records.js";

const VERSION = "1";
const LENGTH_BYTES = 8;
const ALIGNMENT_BYTES = 64;
const HEADER_MAX_BYTES = 64 * 1024 * 1024;
const TENSORS_MAX_COUNT = 1_000_000;
const DIMENSIONS_MAX = 64;
const INT_MIN = -(2n ** 63n);
const INT_MAX = 2n ** 64n - 1n;
const EXACT_IN_DOUBLES = 2n ** 53n;

interface Tensor {
  readonly name: string;
  readonly code: string;
  readonly shape: readonly number[];
  begin: number;
  end: number;
}

/** Return the buffers that, one after the other, are the content; arrays are not copied. */
export function encode(content: RecordDict): Uint8Array[] {
  const tensors: { tensor: Tensor; array: NDArray }[] = [];
  const records: string[] = [];
  for (const [name, record] of content) {
    if (record instanceof ArrayRecord) {
      const dtypes: string[] = [];
      for (const [key, array] of record) {
        const code = array.code;
        if (code === undefined) dtypes.push(`${writeString(key)}:${writeString(array.dtype)}`);
        const shape = code === undefined ? [...array.shape, array.itemBytes] : array.shape;
        const tensor = { name: `${escape(name)}/${key}`, code: code ?? "U8", shape, begin: 0, end: 0 };
        tensors.push({ tensor, array });
      }
      const disguised = dtypes.length ? `,"dtypes":{${dtypes.join(",")}}` : "";
      records.push(`{"name":${writeString(name)},"kind":"arrays"${disguised}}`);
    } else {
      const values = Array.from(record, ([key, value]) => `${writeString(key)}:${describe(value)}`);
      records.push(`{"name":${writeString(name)},"kind":"${record.kind}","values":{${values.join(",")}}}`);
    }
  }
  let position = 0;
  const buffers: Uint8Array[] = [];
  // After a larger alignment a smaller one always fits; equal ones keep their order.
  for (const { tensor, array } of [...tensors].sort((a, b) => b.array.alignment - a.array.alignment)) {
    tensor.begin = position;
    tensor.end = position += array.data.byteLength;
    if (array.data.byteLength) buffers.push(array.bytes);
  }
  return [header(tensors.map(({ tensor }) => tensor), `[${records.join(",")}]`), ...buffers];
}

function header(tensors: Tensor[], records: string): Uint8Array {
  const entries = tensors.map(
    ({ name, code, shape, begin, end }) =>
      `,${writeString(name)}:{"dtype":"${code}","shape":[${shape.join(",")}],"data_offsets":[${begin},${end}]}`,
  );
  const text = Buffer.from(
    `{"__metadata__":{"umbel":"${VERSION}","records":${writeString(records)}}${entries.join("")}}`,
  );
  const size = Math.ceil((LENGTH_BYTES + text.length) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  if (size - LENGTH_BYTES > HEADER_MAX_BYTES || tensors.length > TENSORS_MAX_COUNT) {
    throw recordError(`a header of ${size} bytes for ${tensors.length} arrays is too large`, "put long lists into an array");
  }
  const result = Buffer.alloc(size, " ");
  result.writeBigUInt64LE(BigInt(size - LENGTH_BYTES));
  text.copy(result, LENGTH_BYTES);
  return result;
}

const escape = (recordName: string) => recordName.replaceAll("%", "%25").replaceAll("/", "%2F");

function describe(value: ConfigValue): string {
  if (!Array.isArray(value)) return `{"${typeOf(value)}":${write(value)}}`;
  const [first] = value;
  const type = first === undefined ? "" : typeOf(first);
  for (const item of value) {
    if (typeOf(item) !== type) throw recordError("a list holds values of one type");
  }
  return `{"${type}[]":[${value.map((item) => write(item)).join(",")}]}`;
}

type Scalar = number | bigint | string | boolean | Uint8Array;

function typeOf(value: Scalar): string {
  switch (typeof value) {
    case "number": return "float";
    case "bigint": return "int";
    case "string": return "str";
    case "boolean": return "bool";
    default:
      if (value instanceof Uint8Array) return "bytes";
      throw recordError(`${typeof value} cannot be held in a record`);
  }
}

function write(value: Scalar): string {
  switch (typeof value) {
    case "number":
      if (Number.isFinite(value)) return writeFloat(value);
      return Number.isNaN(value) ? '"nan"' : value > 0 ? '"inf"' : '"-inf"';
    case "bigint":
      if (value < INT_MIN || value > INT_MAX) throw recordError("an integer has at most 64 bits here");
      return value >= -EXACT_IN_DOUBLES && value <= EXACT_IN_DOUBLES ? String(value) : `"${value}"`;
    case "string": return writeString(value);
    case "boolean": return String(value);
    default: return `"${Buffer.from(value).toString("base64")}"`;
  }
}

/** Return the content of a safetensors file; its arrays are views of the buffer where they can be. */
export function decode(buffer: Uint8Array): RecordDict {
  const { tensors, metadata, data } = readHeader(buffer);
  const version = metadata.get("umbel");
  if (version === undefined) {
    return new RecordDict({ arrays: new ArrayRecord(tensors.map((t) => [t.name, view(data, t)] as const)) });
  }
  if (version !== VERSION) throw protocolError(`the body has version ${version} of the format, not ${VERSION}`);
  const content = new RecordDict();
  const ofPrefix = new Map<string, { arrays: ArrayRecord; dtypes: Map<string, string> }>();
  const entries = parseJson(String(metadata.get("records") ?? ""), "the list of records");
  if (!Array.isArray(entries)) throw protocolError("the list of records is not a list");
  for (const entry of entries) {
    const name = entry instanceof Map ? entry.get("name") : undefined;
    if (!(entry instanceof Map) || typeof name !== "string") throw protocolError("a record has no name");
    if (content.has(name)) throw protocolError("a record is listed twice");
    const kind = entry.get("kind");
    if (kind === "arrays") {
      const arrays = new ArrayRecord();
      content.set(name, arrays);
      ofPrefix.set(escape(name), { arrays, dtypes: strings(entry.get("dtypes") ?? new Map(), "dtypes") });
    } else if (kind === "metrics") {
      content.set(name, new MetricRecord(values(entry, ["int", "float"]) as [string, MetricValue][]));
    } else if (kind === "config") {
      content.set(name, new ConfigRecord(values(entry, ["int", "float", "str", "bytes", "bool"])));
    } else throw protocolError(`unknown kind of record ${String(kind)}`);
  }
  for (const tensor of tensors) {
    const slash = tensor.name.indexOf("/");
    const owner = slash < 0 ? undefined : ofPrefix.get(tensor.name.slice(0, slash));
    if (owner === undefined) throw protocolError(`tensor ${tensor.name} belongs to no record`);
    const key = tensor.name.slice(slash + 1);
    const dtype = owner.dtypes.get(key);
    owner.arrays.set(key, view(data, tensor, dtype));
    owner.dtypes.delete(key);
  }
  for (const { dtypes } of ofPrefix.values()) {
    if (dtypes.size) throw protocolError("a dtype is given for no tensor");
  }
  return content;
}

function readHeader(buffer: Uint8Array) {
  if (buffer.byteLength < LENGTH_BYTES) throw protocolError(`a body of ${buffer.byteLength} bytes is too short`);
  const length = Number(new DataView(buffer.buffer, buffer.byteOffset).getBigUint64(0, true));
  if (length > HEADER_MAX_BYTES || LENGTH_BYTES + length > buffer.byteLength) {
    throw protocolError(`a header of ${length} bytes cannot be read`);
  }
  const text = decodeText(buffer.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
  if (!text.startsWith("{")) throw protocolError("the header does not start with '{'");
  const entries = parseJson(text, "the header") as Map<string, Json>;
  const metadata = strings(entries.get("__metadata__") ?? new Map(), "__metadata__");
  entries.delete("__metadata__");
  if (entries.size > TENSORS_MAX_COUNT) throw protocolError("the header lists too many tensors");
  const tensors = Array.from(entries, ([name, entry]) => checkedTensor(name, entry));
  const data = buffer.subarray(LENGTH_BYTES + length);
  let position = 0;
  for (const { name, begin, end } of [...tensors].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== position) throw protocolError(`tensor ${name} begins at ${begin}, where ${position} comes next`);
    position = end;
  }
  if (position !== data.byteLength) throw protocolError(`the tensors take ${position} of ${data.byteLength} bytes`);
  return { tensors, metadata, data };
}

function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw protocolError("the header is not Unicode text");
  }
}

function checkedTensor(name: string, entry: Json): Tensor {
  const [code, shape, offsets] = ["dtype", "shape", "data_offsets"].map((key) =>
    entry instanceof Map ? entry.get(key) : undefined,
  );
  const dtype = typeof code === "string" ? dtypeOfCode(code) : undefined;
  if (typeof code !== "string" || dtype === undefined) throw protocolError(`tensor ${name} has no dtype that is known`);
  if (!areSizes(shape) || shape.length > DIMENSIONS_MAX) throw protocolError(`tensor ${name} has no shape`);
  if (!areSizes(offsets) || offsets.length !== 2) throw protocolError(`tensor ${name} has no data_offsets`);
  const [begin, end] = offsets as [number, number];
  if (sizeOf(shape) * dtype.itemBytes !== end - begin) throw protocolError(`tensor ${name} has bytes for another shape`);
  return { name, code, shape, begin, end };
}

const areSizes = (value: Json | undefined): value is number[] =>
  Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && (item as number) >= 0);

function strings(value: Json, what: string): Map<string, string> {
  if (!(value instanceof Map) || [...value.values()].some((item) => typeof item !== "string")) {
    throw protocolError(`${what} does not map strings to strings`);
  }
  return value as Map<string, string>;
}

function view(data: Uint8Array, { name, code, shape, begin, end }: Tensor, other?: string): NDArray {
  const bytes = data.subarray(begin, end);
  if (other === undefined) return NDArray.fromBytes(dtypeOfCode(code)?.name ?? "", shape, bytes);
  const itemBytes = shape.at(-1);
  if (code !== "U8" || itemBytes === undefined) throw protocolError(`tensor ${name} does not travel as U8`);
  const outer = shape.slice(0, -1);
  return bytes.length ? NDArray.fromBytes(other, outer, bytes) : NDArray.emptyOther(other, outer, itemBytes);
}

function values(entry: Map<string, Json>, allowed: string[]): [string, ConfigValue][] {
  const described = entry.get("values");
  if (!(described instanceof Map)) throw protocolError("a record has no values");
  return Array.from(described, ([key, typed]) => {
    const [pair, more] = typed instanceof Map ? [...typed] : [];
    if (pair === undefined || more !== undefined) throw protocolError(`value ${key} is no object with its type`);
    const [type, written] = pair;
    const isList = type.endsWith("[]");
    const scalar = isList ? type.slice(0, -2) : type;
    const isEmpty = Array.isArray(written) && written.length === 0;
    if (!allowed.includes(scalar) && !(isList && isEmpty)) throw protocolError(`unknown type of value ${type}`);
    if (!isList) return [key, read(scalar, written)];
    if (!Array.isArray(written)) throw protocolError(`value ${key} of type ${type} is no list`);
    return [key, written.map((item) => read(scalar, item)) as ConfigValue];
  });
}

function read(type: string, written: Json): Scalar {
  if (type === "bool" && typeof written === "boolean") return written;
  if (type === "str" && typeof written === "string") return written;
  if (type === "bytes" && typeof written === "string") {
    const bytes = Buffer.from(written, "base64");
    if (bytes.toString("base64") === written) return new Uint8Array(bytes);
  }
  if (type === "float") {
    if (typeof written === "number") return written;
    if (written === "nan" || written === "inf" || written === "-inf") {
      return { nan: NaN, inf: Infinity, "-inf": -Infinity }[written];
    }
  }
  if (type === "int") {
    const fits = typeof written === "number" ? Number.isInteger(written) : /^-?(0|[1-9][0-9]*)$/.test(String(written));
    if (fits && (typeof written === "number" || typeof written === "string")) {
      const value = BigInt(written);
      if (value >= INT_MIN && value <= INT_MAX) return value;
    }
  }
  throw protocolError(`a value is not what its type ${type} says: ${String(written)}`);
}
