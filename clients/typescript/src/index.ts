export { NDArray, type Data } from "./arrays.js";
export type { Content, Context, Handler, Message, Setting } from "./app.js";
export { decode, encode } from "./codec.js";
export { UmbelError } from "./errors.js";
export { join, type Joined } from "./joining.js";
export { UmbelNode, type NodeEvent, type NodeOptions } from "./node.js";
export { ArrayRecord, ConfigRecord, MetricRecord, RecordDict, int, type ConfigValue, type MetricValue } from "./records.js";
export type { TlsFiles } from "./wire.js";
