/** Arrays of numbers with a dtype and a shape, in C order. */
import { recordError } from "./errors.js";

export type Data =
  | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array
  | BigInt64Array | BigUint64Array | Float32Array | Float64Array;

interface Constructor {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): Data;
}

interface DType {
  /** The name in safetensors. */
  readonly code: string;
  readonly view: Constructor;
  /** How many elements of the typed array one item takes. */
  readonly elements: number;
}

const dtype = (code: string, view: Constructor, elements = 1): DType => ({ code, view, elements });

/** The dtypes that safetensors knows. JavaScript has no numbers for the raw ones. */
const DTYPES: Readonly<Record<string, DType>> = {
  bool: dtype("BOOL", Uint8Array),
  int8: dtype("I8", Int8Array),
  uint8: dtype("U8", Uint8Array),
  int16: dtype("I16", Int16Array),
  uint16: dtype("U16", Uint16Array),
  int32: dtype("I32", Int32Array),
  uint32: dtype("U32", Uint32Array),
  int64: dtype("I64", BigInt64Array),
  uint64: dtype("U64", BigUint64Array),
  float32: dtype("F32", Float32Array),
  float64: dtype("F64", Float64Array),
  complex64: dtype("C64", Float32Array, 2), // real part, imaginary part
  float16: dtype("F16", Uint16Array), // raw
  bfloat16: dtype("BF16", Uint16Array), // raw
  float8_e4m3fn: dtype("F8_E4M3", Uint8Array), // raw, as are those below
  float8_e5m2: dtype("F8_E5M2", Uint8Array),
  float8_e4m3fnuz: dtype("F8_E4M3FNUZ", Uint8Array),
  float8_e5m2fnuz: dtype("F8_E5M2FNUZ", Uint8Array),
  float8_e8m0fnu: dtype("F8_E8M0", Uint8Array),
};

const NAME_OF_CODE = new Map(Object.entries(DTYPES).map(([name, { code }]) => [code, name]));
const NAME_OF_VIEW = new Map<unknown, string>([
  [Int8Array, "int8"], [Uint8Array, "uint8"], [Int16Array, "int16"], [Uint16Array, "uint16"],
  [Int32Array, "int32"], [Uint32Array, "uint32"], [BigInt64Array, "int64"],
  [BigUint64Array, "uint64"], [Float32Array, "float32"], [Float64Array, "float64"],
]);

/** What NumPy aligns the items of its other dtypes to; their bytes travel as they are. */
function alignmentOfOther(name: string): number {
  if (/^(float128|complex256|longdouble|clongdouble)$/.test(name)) return 16;
  if (/^(complex128|datetime64|timedelta64)/.test(name)) return 8;
  return name.startsWith("<U") ? 4 : 1;
}

/** Return how many items a shape has. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Return the dtype and the bytes of an item for a safetensors code. */
export function dtypeOfCode(code: string): { name: string; itemBytes: number } | undefined {
  const name = NAME_OF_CODE.get(code);
  const known = name === undefined ? undefined : DTYPES[name];
  if (name === undefined || known === undefined) return undefined;
  return { name, itemBytes: known.elements * known.view.BYTES_PER_ELEMENT };
}

/**
 * An array: `data` holds its items in C order.
 *
 * A dtype that JavaScript has no numbers for is kept raw: `float16` and `bfloat16` as `Uint16Array`,
 * 8-bit floats and every other dtype of NumPy as `Uint8Array`.
 */
export class NDArray<T extends Data = Data> {
  private constructor(
    readonly dtype: string,
    readonly shape: readonly number[],
    readonly data: T,
    readonly itemBytes: number,
  ) {}

  /** Return an array that holds `data`; the shape is that of a vector unless it is given. */
  static of<T extends Data>(data: T, shape: readonly number[] = [data.length], dtype?: string): NDArray<T> {
    const name = dtype ?? NAME_OF_VIEW.get(data.constructor) ?? "uint8";
    const known = DTYPES[name];
    if (known === undefined || !(data instanceof known.view)) {
      throw recordError(`${data.constructor.name} cannot hold ${name}`);
    }
    if (sizeOf(shape) * known.elements !== data.length) {
      throw recordError(`${data.length} elements do not fill an array of shape [${shape.join(", ")}]`);
    }
    return new NDArray(name, shape, data, known.elements * known.view.BYTES_PER_ELEMENT);
  }

  /** Return an array over bytes; they are copied only where their place does not suit the dtype. */
  static fromBytes(dtypeName: string, shape: readonly number[], bytes: Uint8Array): NDArray {
    const known = DTYPES[dtypeName];
    if (known === undefined) {
      const items = sizeOf(shape);
      return new NDArray(dtypeName, shape, bytes, items ? bytes.byteLength / items : 0);
    }
    const width = known.view.BYTES_PER_ELEMENT;
    const placed = bytes.byteOffset % width ? Uint8Array.from(bytes) : bytes;
    const data = new known.view(placed.buffer, placed.byteOffset, placed.byteLength / width);
    return new NDArray(dtypeName, shape, data, known.elements * width);
  }

  /** Return an empty array of a dtype that safetensors does not know. */
  static emptyOther(dtypeName: string, shape: readonly number[], itemBytes: number): NDArray {
    return new NDArray(dtypeName, shape, new Uint8Array(0), itemBytes);
  }

  /** Return a float32 array of zeros. */
  static zeros(shape: readonly number[]): NDArray<Float32Array> {
    return NDArray.of(new Float32Array(sizeOf(shape)), shape);
  }

  /** The items' bytes, not copied. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.data.buffer, this.data.byteOffset, this.data.byteLength);
  }

  /** The name in safetensors; undefined for a dtype that it does not know. */
  get code(): string | undefined {
    return DTYPES[this.dtype]?.code;
  }

  /** What the items are aligned to, in bytes. */
  get alignment(): number {
    return DTYPES[this.dtype]?.view.BYTES_PER_ELEMENT ?? alignmentOfOther(this.dtype);
  }

  /** The items as numbers; a 64-bit integer beyond 2**53 loses its last digits. */
  numbers(): number[] {
    return Array.from(this.data as ArrayLike<number | bigint>, Number);
  }
}
