/** What a node does with messages: a handler for each type. */
import { UmbelError } from "./errors.js";
import { RecordDict, type RecordOfAnyKind } from "./records.js";

/** What came from the server. */
export interface Message {
  readonly content: RecordDict;
  readonly type: string;
  readonly messageId: string;
  /** The name of the requests that it belongs to, such as the round. */
  readonly groupId: string;
  /** Seconds since the Unix epoch. */
  readonly createdAt: number;
  /** For how long it is valid, in seconds. */
  readonly ttlS: number;
}

export type Setting = string | number | boolean;

/** What a handler knows beside the message. */
export interface Context {
  readonly runId: string;
  readonly nodeId: bigint;
  /** The owner's settings; "partition-id" is the node's id unless they say otherwise. */
  readonly nodeConfig: Readonly<Record<string, Setting>>;
  /** The settings of the run. */
  readonly runConfig: Readonly<Record<string, Setting>>;
  /** What the node keeps between the messages of a run, over restarts too. A handler changes it. */
  readonly state: RecordDict;
  /** Aborted when the answer is not wanted any more. */
  readonly signal: AbortSignal;
}

/** A reply: records by name. */
export type Content = RecordDict | Readonly<Record<string, RecordOfAnyKind>>;
export type Handler = (message: Message, context: Context) => Promise<Content> | Content;

/** Handlers by the type of message, such as "train" or "query.count". */
export class Handlers {
  readonly #handlers = new Map<string, Handler>();

  add(kind: string, action: string | undefined, handler: Handler): void {
    const type = action === undefined ? kind : `${kind}.${action}`;
    if (this.#handlers.has(type)) throw new UmbelError("U100", `there is a handler for ${type} already`);
    this.#handlers.set(type, handler);
  }

  async answer(message: Message, context: Context): Promise<RecordDict> {
    const handler = this.#handlers.get(message.type) ?? this.#handlers.get(message.type.replace(/\.default$/, ""));
    if (handler === undefined) {
      const known = [...this.#handlers.keys()].join(", ") || "none";
      throw new UmbelError("U100", `this node has no handler for ${message.type}`, `it has: ${known}`);
    }
    const content = await handler(message, context);
    return content instanceof RecordDict ? content : new RecordDict(content);
  }
}
