/** The app that `umbel conformance` asks for: node dist/examples/echo.js HOST:PORT FOLDER */
import { ArrayRecord, MetricRecord, NDArray, UmbelNode } from "../src/index.js";

const [address = "127.0.0.1:9300", dataDir = "umbel-node"] = process.argv.slice(2);

function plusOne(array: NDArray): NDArray {
  const bytes = Uint8Array.from(array.bytes);
  const result = NDArray.fromBytes(array.dtype, array.shape, bytes);
  const { data } = result;
  for (let at = 0; at < data.length; at++) {
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[at]! += 1n;
    else data[at]! += 1;
  }
  return result;
}

await new UmbelNode({ address, dataDir, onEvent: ({ kind, text }) => console.log(kind, text) })
  .train(({ content }) => ({
    arrays: new ArrayRecord(Array.from(content.arrays(), ([name, array]) => [name, plusOne(array)] as const)),
    metrics: new MetricRecord({ "num-examples": 1n }),
  }))
  .query(() => {
    throw new Error("the data is empty");
  }, "fail")
  .run();
