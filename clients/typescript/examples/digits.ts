/**
 * A node of examples/mixed-federation: softmax regression on its share of scikit-learn's digits.
 *
 *     node dist/examples/digits.js HOST:PORT --digits digits.csv.gz --partition-id 1 --num-partitions 2
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { ArrayRecord, MetricRecord, NDArray, UmbelNode, int, join, type Context, type Message } from "../src/index.js";

const PIXELS = 64;
const CLASSES = 10;

interface Model { weights: Float32Array; bias: Float32Array }
interface Digit { image: Float32Array; label: number }

/** Return every n-th of the training digits: all but each fifth, as data.py deals them out. */
function share(file: string, partition: number, partitions: number): Digit[] {
  const lines = gunzipSync(readFileSync(file)).toString("ascii").trim().split("\n");
  return lines
    .filter((_, row) => row % 5 !== 0)
    .filter((_, row) => row % partitions === partition)
    .map((line) => {
      const numbers = line.split(",").map(Number);
      return { image: Float32Array.from(numbers.slice(0, PIXELS), (pixel) => pixel / 16), label: numbers[PIXELS]! };
    });
}

/** Return the probability of each class. */
function probabilities({ weights, bias }: Model, image: Float32Array): Float64Array {
  const scores = Float64Array.from(bias);
  for (let pixel = 0; pixel < PIXELS; pixel++) {
    const value = image[pixel]!;
    if (value !== 0) for (let c = 0; c < CLASSES; c++) scores[c]! += value * weights[pixel * CLASSES + c]!;
  }
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Return the model after one step of gradient descent on all the digits. */
function step(model: Model, digits: Digit[], learningRate: number): Model {
  const weights = Float64Array.from(model.weights);
  const bias = Float64Array.from(model.bias);
  const rate = learningRate / digits.length;
  for (const { image, label } of digits) {
    const error = probabilities(model, image);
    error[label]! -= 1;
    for (let c = 0; c < CLASSES; c++) {
      bias[c]! -= rate * error[c]!;
      for (let pixel = 0; pixel < PIXELS; pixel++) weights[pixel * CLASSES + c]! -= rate * error[c]! * image[pixel]!;
    }
  }
  return { weights: Float32Array.from(weights), bias: Float32Array.from(bias) };
}

/** Return the mean cross-entropy, the share of right answers, and the number of digits. */
function evaluate(model: Model, digits: Digit[]): MetricRecord {
  let loss = 0;
  let right = 0;
  for (const { image, label } of digits) {
    const likely = probabilities(model, image);
    loss -= Math.log(likely[label]! + 1e-9) / digits.length;
    right += Number(likely.indexOf(Math.max(...likely)) === label);
  }
  return new MetricRecord({ loss, accuracy: right / digits.length, "num-examples": int(digits.length) });
}

function received({ content }: Message): Model {
  const arrays = content.arrays();
  return { weights: arrays.array("weights", Float32Array).data, bias: arrays.array("bias", Float32Array).data };
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    digits: { type: "string" },
    data: { type: "string", default: "umbel-node-ts" },
    join: { type: "string" },
    "partition-id": { type: "string", default: "1" },
    "num-partitions": { type: "string", default: "2" },
  },
});
if (values.digits === undefined) throw new Error("name the file with the digits: --digits .../digits.csv.gz");
const digits = share(values.digits, Number(values["partition-id"]), Number(values["num-partitions"]));
const where = values.join
  ? await join(values.join, values.data)
  : { address: positionals[0] ?? "localhost:9200", dataDir: values.data };

const leave = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => leave.abort());
await new UmbelNode({ ...where, tags: { language: "typescript" }, onEvent: ({ kind, text }) => console.log(`${kind}: ${text}`) })
  .train((message, { runConfig }: Context) => {
    let model = received(message);
    for (let epoch = 0; epoch < Number(runConfig["local-epochs"]); epoch++) {
      model = step(model, digits, Number(runConfig["learning-rate"]));
    }
    const arrays = { weights: NDArray.of(model.weights, [PIXELS, CLASSES]), bias: NDArray.of(model.bias) };
    return { arrays: new ArrayRecord(arrays), metrics: evaluate(model, digits) };
  })
  .evaluate((message) => ({ metrics: evaluate(received(message), digits) }))
  .run(leave.signal);
