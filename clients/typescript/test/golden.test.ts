import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { ArrayRecord, ConfigRecord, MetricRecord, NDArray, RecordDict, decode, encode } from "../src/index.js";
import { services } from "../src/wire.js";

const GOLDEN = new URL("../../../../tests/golden/", import.meta.url);
const golden = (name: string) => readFileSync(new URL(`contents/${name}.safetensors`, GOLDEN));
const written = (content: RecordDict) => Buffer.concat(encode(content));

for (const file of readdirSync(new URL("contents/", GOLDEN)).filter((name) => name.endsWith(".safetensors"))) {
  test(`${file} is read and written again to the byte`, () => {
    const bytes = readFileSync(new URL(`contents/${file}`, GOLDEN));
    assert.deepEqual(written(decode(bytes)), bytes);
  });
}

test("a content made here is what Python writes", () => {
  const content = new RecordDict({
    arrays: new ArrayRecord({
      weights: NDArray.of(Float32Array.from([0, 0.25, 0.5, 0.75, 1, 1.25]), [2, 3]),
      bias: NDArray.of(Float64Array.from([-1.5, 1e-300])),
    }),
    metrics: new MetricRecord({ loss: 0.5, "num-examples": 3n }),
    config: new ConfigRecord({ lr: 0.1, name: "a", use: true, key: Uint8Array.from([0, 255]) }),
  });
  assert.deepEqual(written(content), golden("plain"));
});

test("integers keep all their digits", () => {
  const metrics = decode(golden("integers")).metrics();
  assert.equal(metrics.get("least"), -(2n ** 63n));
  assert.equal(metrics.get("most"), 2n ** 64n - 1n);
  assert.deepEqual(metrics.get("list"), [0n, -1n, 2n ** 63n - 1n]);
});

test("names may hold anything, and keep their order", () => {
  const content = decode(golden("names"));
  assert.deepEqual([...content.keys()], ["a/b%c", "ünï 🌱", "", "10", "9"]);
  assert.deepEqual([...content.arrays("a/b%c").keys()], ["x/y%2F", ""]);
  assert.deepEqual([...content.config("10").keys()].slice(0, 2), ["2", "1"]);
});

test("every dtype that JavaScript has numbers for is read as numbers", () => {
  const arrays = decode(golden("dtypes")).arrays();
  for (const name of ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]) {
    assert.deepEqual(arrays.get(name)?.numbers().slice(0, 2), [0, 1], name);
  }
  assert.deepEqual(arrays.array("float64", Float64Array).data, Float64Array.from([0, 1, 1, 0]));
  assert.deepEqual(arrays.array("int64", BigInt64Array).data.slice(2), BigInt64Array.from([-(2n ** 63n), 2n ** 63n - 1n]));
});

test("arrays are views, and one at an odd place is copied", () => {
  const plain = golden("plain");
  const odd = Buffer.alloc(plain.length + 1);
  plain.copy(odd, 1);
  const array = decode(odd.subarray(1)).arrays().array("weights", Float32Array);
  assert.deepEqual([...array.data], [0, 0.25, 0.5, 0.75, 1, 1.25]);
});

const TOO_LONG = Buffer.alloc(16, 0xff);
const cut = golden("plain").subarray(0, -1);
const twice = Buffer.from(golden("plain").toString("latin1").replace("arrays/bias", "arrays/weights"), "latin1");
for (const [what, bytes] of Object.entries({ empty: Buffer.alloc(0), TOO_LONG, cut, twice })) {
  test(`a damaged file is refused: ${what}`, () => {
    assert.throws(() => decode(bytes), { name: "ProtocolError" });
  });
}

test("half of a surrogate pair is refused, and a backslash is no trouble", () => {
  assert.throws(() => encode(new RecordDict({ c: new ConfigRecord({ a: "\ud800" }) })), { name: "RecordError" });
  const fine = new RecordDict({ c: new ConfigRecord({ a: "\\ud800" }) });
  assert.equal(decode(written(fine)).config("c").get("a"), "\\ud800");
});

type Codec = { serialize: (value: object) => Buffer; deserialize: (bytes: Buffer) => object };
const methods = (service: "Nodes" | "Objects", method: string) => services[service].service[method];
const CODECS: Record<string, Codec> = {
  FromNode: { serialize: methods("Nodes", "Connect")!.requestSerialize, deserialize: methods("Nodes", "Connect")!.requestDeserialize },
  ToNode: { serialize: methods("Nodes", "Connect")!.responseSerialize, deserialize: methods("Nodes", "Connect")!.responseDeserialize },
  PushChunk: { serialize: methods("Objects", "Push")!.requestSerialize, deserialize: methods("Objects", "Push")!.requestDeserialize },
  PullRequest: { serialize: methods("Objects", "Pull")!.requestSerialize, deserialize: methods("Objects", "Pull")!.requestDeserialize },
};

/** Leave out what is a default, which JavaScript would write although nobody needs it. */
function sparse(value: unknown): unknown {
  if (Buffer.isBuffer(value) || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.length ? value.map(sparse) : undefined;
  const entries = Object.entries(value).map(([key, item]) => [key, sparse(item)] as const);
  return Object.fromEntries(
    entries.filter(([, item]) => item != null && item !== "" && item !== 0 && item !== "0" && item !== false && !(Buffer.isBuffer(item) && !item.length)),
  );
}

for (const file of readdirSync(new URL("wire/", GOLDEN))) {
  test(`the message ${file} is read and written again to the byte`, () => {
    const bytes = readFileSync(new URL(`wire/${file}`, GOLDEN));
    const codec = CODECS[file.split(".")[0] ?? ""];
    assert.ok(codec);
    assert.deepEqual(codec.serialize(sparse(codec.deserialize(bytes)) as object), bytes);
  });
}
