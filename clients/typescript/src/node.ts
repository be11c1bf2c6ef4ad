/** A node: keeps connected, answers tasks, and lets go of a reply when it is safe. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { Handlers, type Context, type Handler, type Setting } from "./app.js";
import { decode, encode } from "./codec.js";
import { ErrorCode, UmbelError, fromStatus } from "./errors.js";
import { Journal, checkNames, type Outcome } from "./journal.js";
import { RecordDict } from "./records.js";
import { keepCertificate } from "./renewal.js";
import { CODEC, PROTOCOL, Session } from "./session.js";
import { pull, push, readAll } from "./transfer.js";
import { COMPRESSION_NONE, credentialsOf, type Hello, type RunInfo, type Task, type TlsFiles, type ToNode } from "./wire.js";

const INLINE_MAX_BYTES = 64 * 1024;
const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 30_000;
const RETRY_MS = 1_000;
const REASON_MAX_CHARS = 8_000;
const SOFTWARE = `umbel-client/0.1.0 node/${process.versions.node}`;

export interface NodeOptions {
  /** The server, "host:port". */
  address: string;
  /** Where identity, states and unacknowledged replies are kept. One node, one folder. */
  dataDir?: string;
  /** For mutual TLS. Without, nothing is encrypted. */
  tls?: TlsFiles;
  /** Without TLS: the bytes by which the server knows this node again; made when missing. */
  secretFile?: string;
  /** What it is called; the name of the machine by default. */
  name?: string;
  tags?: Record<string, string>;
  /** What handlers see as `context.nodeConfig`. */
  nodeConfig?: Record<string, Setting>;
  /** How many tasks it takes at once; those of one run follow each other. */
  maxTasks?: number;
  /** Called with what happens. */
  onEvent?: (event: NodeEvent) => void;
}

export interface NodeEvent {
  kind: "connecting" | "connected" | "disconnected" | "accepted" | "finished" | "failed" | "acknowledged" | "cancelled" | "run_over" | "certificate";
  text: string;
  runId?: string;
  messageId?: string;
}

interface Running {
  readonly runId: string;
  readonly abort: AbortController;
}

export class UmbelNode {
  readonly #options: NodeOptions;
  readonly #dataDir: string;
  readonly #handlers = new Handlers();
  readonly #tasks = new Map<string, Running>();
  readonly #turns = new Map<string, Promise<void>>();
  readonly #waiting: (() => void)[] = [];
  #session: Session | undefined;
  #nodeId = "0";
  #journal!: Journal;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#dataDir = options.dataDir ?? "umbel-node";
  }

  /** Answer "train" messages; with an action, those of type "train.ACTION". */
  train(handler: Handler, action?: string): this {
    this.#handlers.add("train", action, handler);
    return this;
  }

  /** Answer "evaluate" messages. */
  evaluate(handler: Handler, action?: string): this {
    this.#handlers.add("evaluate", action, handler);
    return this;
  }

  /** Answer "query" messages. */
  query(handler: Handler, action?: string): this {
    this.#handlers.add("query", action, handler);
    return this;
  }

  /** Work for the server until the signal is aborted; a connection that fails is made again, for ever. */
  async run(signal: AbortSignal = new AbortController().signal): Promise<void> {
    this.#journal = new Journal(this.#dataDir);
    const secret = this.#options.tls ? new Uint8Array() : this.#secret();
    const hangUp = () => this.#session?.close();
    signal.addEventListener("abort", hangUp);
    let failures = 0;
    while (!signal.aborted) {
      this.#say("connecting", `connecting to ${this.#options.address}`);
      try {
        const session = await Session.open(this.#options.address, credentialsOf(this.#options.tls), this.#hello(secret));
        failures = 0;
        await this.#serve(session, signal);
      } catch (error) {
        if (signal.aborted) break;
        const limit = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** failures);
        const pauseMs = PAUSE_MIN_MS + Math.random() * (limit - PAUSE_MIN_MS);
        failures = Math.min(failures + 1, 10);
        this.#say("disconnected", `${String(fromStatus(error))} (trying again in ${(pauseMs / 1000).toFixed(1)} s)`);
        await pause(pauseMs, signal);
      }
    }
    signal.removeEventListener("abort", hangUp);
    for (const { abort } of this.#tasks.values()) abort.abort();
    await Promise.all(this.#turns.values());
  }

  async #serve(session: Session, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return session.close();
    this.#session = session;
    this.#nodeId = session.welcome.node_id;
    this.#say("connected", `connected to ${this.#options.address} as ${session.welcome.node_id}`);
    for (const outcome of this.#journal.done()) void this.#deliver(outcome);
    for (const proceed of this.#waiting.splice(0)) proceed();
    const { tls } = this.#options;
    const endKeeping = tls?.renews && keepCertificate(session.server, tls, (text) => this.#say("certificate", text));
    try {
      await session.serve((message) => this.#take(message, session));
    } finally {
      if (endKeeping) endKeeping();
      this.#session = undefined;
    }
  }

  #hello(secret: Uint8Array): Hello {
    return {
      protocol_min: PROTOCOL,
      protocol_max: PROTOCOL,
      software: SOFTWARE,
      name: this.#options.name ?? hostname(),
      secret,
      tags: this.#options.tags ?? {},
      capacity: this.#options.maxTasks ?? 1,
      held: [...new Set([...this.#tasks.keys(), ...this.#journal.done().map(({ messageId }) => messageId)])],
      codecs: [CODEC],
      compressions: [COMPRESSION_NONE],
    };
  }

  #take({ kind, task, ack, cancel, run_over }: ToNode, session: Session): void {
    if (kind === "task" && task) this.#accept(task, session);
    else if (kind === "ack" && ack) this.#forget(ack.message_id, "acknowledged", "the server has the reply");
    else if (kind === "cancel" && cancel) {
      this.#tasks.get(cancel.message_id)?.abort.abort();
      this.#tasks.delete(cancel.message_id);
      this.#forget(cancel.message_id, "cancelled", cancel.reason || "not wanted any more");
    } else if (kind === "run_over" && run_over) this.#forgetRun(run_over);
    // What else a newer server says is not for us.
  }

  #accept(task: Task, session: Session): void {
    const { message_id: messageId, run } = task;
    if (!run) throw new UmbelError("U303", "a task belongs to a run");
    checkNames(run.run_id, messageId);
    const outcome = this.#journal.find(messageId);
    if (outcome === undefined && !this.#tasks.has(messageId)) {
      const running = { runId: run.run_id, abort: new AbortController() };
      this.#tasks.set(messageId, running);
      const turn = (this.#turns.get(run.run_id) ?? Promise.resolve()).then(() => this.#handle(task, run, running));
      this.#turns.set(run.run_id, turn);
      this.#say("accepted", task.message_type, run.run_id, messageId);
    }
    session.send({ accepted: { message_id: messageId } });
    if (outcome) void this.#deliver(outcome);
  }

  #forget(messageId: string, kind: NodeEvent["kind"], text: string): void {
    this.#journal.forget(messageId);
    this.#say(kind, text, undefined, messageId);
  }

  #forgetRun({ run_id: runId, final }: { run_id: string; final: boolean }): void {
    checkNames(runId);
    for (const [messageId, running] of this.#tasks) {
      if (running.runId !== runId) continue;
      running.abort.abort();
      this.#tasks.delete(messageId);
    }
    this.#journal.forgetRun(runId, final);
    this.#turns.delete(runId);
    this.#say("run_over", final ? "forgotten" : "ended; its state is kept", runId);
  }

  /** Bring a task to its end, and what came of it on its way. */
  async #handle(task: Task, run: RunInfo, { abort }: Running): Promise<void> {
    const ids = [run.run_id, task.message_id] as const;
    const outcome = await this.#outcome(task, run, abort.signal);
    if (outcome === undefined) return; // not wanted any more
    this.#tasks.delete(task.message_id);
    const { failure } = outcome;
    if (failure) this.#say("failed", `${failure.kind}: ${failure.reason}`, ...ids);
    else this.#say("finished", `${outcome.object?.size_bytes} bytes`, ...ids);
    await this.#deliver(outcome);
  }

  async #outcome(task: Task, run: RunInfo, signal: AbortSignal): Promise<Outcome | undefined> {
    const ids = [run.run_id, task.message_id] as const;
    let code: number = ErrorCode.MESSAGE_UNAVAILABLE;
    try {
      const content = await this.#content(task, signal);
      const before = this.#journal.state(run.run_id);
      const context = this.#context(run, before ? decode(before) : new RecordDict(), signal);
      code = ErrorCode.HANDLER_RAISED;
      const message = {
        content,
        type: task.message_type,
        messageId: task.message_id,
        groupId: task.group_id,
        createdAt: task.created_at,
        ttlS: task.ttl_s,
      };
      const reply = encode(await this.#handlers.answer(message, context));
      const state = before || context.state.size ? encode(context.state) : undefined;
      return signal.aborted ? undefined : this.#journal.succeed(...ids, reply, state);
    } catch (error) {
      if (signal.aborted) return undefined;
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      const hint = error instanceof UmbelError && error.hint ? `. Hint: ${error.hint}` : "";
      const reason = `${message}${hint}`.slice(0, REASON_MAX_CHARS);
      return this.#journal.fail(...ids, { code, kind: name, reason });
    }
  }

  /** The records of the body, and those that came with the task. */
  async #content(task: Task, signal: AbortSignal): Promise<RecordDict> {
    const { body } = task;
    let content = new RecordDict();
    if (body?.hash) {
      const folder = join(this.#dataDir, "objects");
      const file = await this.#persistently(signal, ({ server }) => pull(server.objects, body, folder, signal));
      content = decode(readAll(file));
    }
    if (task.records.length) for (const [name, record] of decode(task.records)) content.set(name, record);
    return content;
  }

  #context(run: RunInfo, state: RecordDict, signal: AbortSignal): Context {
    const nodeId = BigInt(this.#nodeId);
    return {
      runId: run.run_id,
      nodeId,
      nodeConfig: { "partition-id": Number(nodeId), ...this.#options.nodeConfig },
      runConfig: JSON.parse(run.run_config || "{}") as Record<string, Setting>,
      state,
      signal,
    };
  }

  /** Use the session, and the next one when it fails. */
  async #persistently<T>(signal: AbortSignal, use: (session: Session) => Promise<T>): Promise<T> {
    for (;;) {
      const session = this.#session;
      if (session === undefined) {
        await new Promise<void>((resolve) => {
          this.#waiting.push(resolve);
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
        signal.throwIfAborted();
        continue;
      }
      try {
        return await use(session);
      } catch (error) {
        signal.throwIfAborted();
        if (!fromStatus(error).mayPass) throw error;
        await pause(RETRY_MS, AbortSignal.any([session.lost, signal]));
      }
    }
  }

  /** Hand over what came of a task, if the server is there; that it is safe is told by its Ack. */
  async #deliver(outcome: Outcome): Promise<void> {
    const session = this.#session;
    const { messageId, failure, object } = outcome;
    while (session && !session.lost.aborted && this.#journal.find(messageId) === outcome) {
      try {
        const reply = { message_id: messageId };
        if (failure || !object) session.send({ reply: { ...reply, failure } });
        else if (Number(object.size_bytes) <= INLINE_MAX_BYTES) {
          session.send({ reply: { ...reply, content: readAll(this.#journal.replyFile(outcome)) } });
        } else {
          await push(session.server.objects, object, this.#journal.replyFile(outcome));
          session.send({ reply: { ...reply, body: object } });
        }
        return;
      } catch (error) {
        if (this.#journal.find(messageId) !== outcome) return; // acknowledged or cancelled meanwhile
        const problem = fromStatus(error);
        if (problem.mayPass) {
          await pause(RETRY_MS, session.lost);
          continue;
        }
        const reason = `the reply cannot be handed over: ${problem.message}`;
        const told = { code: ErrorCode.REPLY_UNAVAILABLE, kind: problem.name, reason };
        this.#say("failed", reason, outcome.runId, messageId);
        return await this.#deliver(this.#journal.fail(outcome.runId, messageId, told));
      }
    }
  }

  #secret(): Uint8Array {
    const file = this.#options.secretFile ?? join(this.#dataDir, "identity", "secret");
    if (!existsSync(file)) {
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
      writeFileSync(`${file}.draft`, randomBytes(32).toString("hex"), { mode: 0o600, flush: true });
      renameSync(`${file}.draft`, file);
    }
    return readFileSync(file);
  }

  #say(kind: NodeEvent["kind"], text: string, runId?: string, messageId?: string): void {
    this.#options.onEvent?.({ kind, text, ...(runId && { runId }), ...(messageId && { messageId }) });
  }
}

/** Wait, but not longer than until the signal is aborted. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
