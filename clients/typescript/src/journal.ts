/**
 * What a node has computed and not been thanked for, in files, so that no kill loses or doubles it.
 *
 * A folder for each run: `replies/ID` is the body of a reply, `states/ID` the state after it, and
 * `done/ID.json`, which appears by a rename, makes the task done; only then the new state becomes
 * `state`. Opening the journal finishes what a kill interrupted.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync, openSync, writeSync, fsyncSync, closeSync } from "node:fs";
import { join } from "node:path";
import { protocolError } from "./errors.js";
import type { Failure, ObjectName } from "./wire.js";

const RUN_ID = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/;
const MESSAGE_ID = /^[A-Za-z0-9_-]{1,100}$/;

/** What came of a task. */
export interface Outcome {
  readonly runId: string;
  readonly messageId: string;
  readonly object?: ObjectName;
  readonly failure?: Failure;
  readonly hasState?: boolean;
}

export class Journal {
  readonly #runs: string;
  readonly #done = new Map<string, Outcome>();

  constructor(folder: string) {
    this.#runs = join(folder, "runs");
    mkdirSync(this.#runs, { recursive: true });
    for (const run of readdirSync(this.#runs).sort()) this.#recover(run);
  }

  /** What was not forgotten, the oldest first. */
  done(): Outcome[] {
    return [...this.#done.values()];
  }

  find(messageId: string): Outcome | undefined {
    return this.#done.get(messageId);
  }

  /** Where the body of a reply lies. */
  replyFile({ runId, messageId }: Outcome): string {
    return join(this.#runs, runId, "replies", messageId);
  }

  /** The state of a run after the last task that is done. */
  state(runId: string): Buffer | undefined {
    const file = join(this.#runs, runId, "state");
    return existsSync(file) ? readFileSync(file) : undefined;
  }

  /** Make a task done with a reply: from here on it is not run again. */
  succeed(runId: string, messageId: string, reply: Uint8Array[], state?: Uint8Array[]): Outcome {
    checkNames(runId, messageId);
    for (const name of ["replies", "states"]) mkdirSync(join(this.#runs, runId, name), { recursive: true });
    const object = write(join(this.#runs, runId, "replies", messageId), reply);
    if (state) write(join(this.#runs, runId, "states", messageId), state);
    return this.#commit({ runId, messageId, object, hasState: state !== undefined });
  }

  /** Make a task done without a reply. */
  fail(runId: string, messageId: string, failure: Failure): Outcome {
    return this.#commit({ runId, messageId, failure });
  }

  /** Drop what came of a task: the server has it, or does not want it. */
  forget(messageId: string): void {
    const outcome = this.#done.get(messageId);
    if (outcome === undefined) return;
    this.#done.delete(messageId);
    // The record goes last: without its body it would be no reply.
    rmSync(this.replyFile(outcome), { force: true });
    rmSync(join(this.#runs, outcome.runId, "done", `${messageId}.json`), { force: true });
  }

  /** Drop a run's replies, and its state too if it will not be resumed. */
  forgetRun(runId: string, final: boolean): void {
    checkNames(runId);
    for (const { messageId, runId: own } of this.done()) if (own === runId) this.#done.delete(messageId);
    const run = join(this.#runs, runId);
    const left = final ? [run] : ["done", "replies", "states"].map((name) => join(run, name));
    for (const path of left) rmSync(path, { recursive: true, force: true });
  }

  #commit(outcome: Outcome): Outcome {
    checkNames(outcome.runId, outcome.messageId);
    const folder = join(this.#runs, outcome.runId, "done");
    mkdirSync(folder, { recursive: true });
    const draft = join(folder, `${outcome.messageId}.draft`);
    writeFileSync(draft, JSON.stringify(outcome), { flush: true });
    renameSync(draft, join(folder, `${outcome.messageId}.json`));
    this.#done.set(outcome.messageId, outcome);
    this.#apply(outcome);
    return outcome;
  }

  #apply({ runId, messageId, hasState }: Outcome): void {
    const fresh = join(this.#runs, runId, "states", messageId);
    if (hasState && existsSync(fresh)) renameSync(fresh, join(this.#runs, runId, "state"));
  }

  #recover(runId: string): void {
    const folder = join(this.#runs, runId, "done");
    const records = filesIn(folder).filter((name) => name.endsWith(".json"));
    const byAge = records.sort((a, b) => statSync(join(folder, a)).mtimeMs - statSync(join(folder, b)).mtimeMs);
    for (const record of byAge) {
      const outcome = JSON.parse(readFileSync(join(folder, record), "utf8")) as Outcome;
      this.#apply(outcome);
      if (outcome.failure || existsSync(this.replyFile(outcome))) this.#done.set(outcome.messageId, outcome);
      else rmSync(join(folder, record)); // it was being forgotten
    }
    const run = join(this.#runs, runId);
    for (const name of filesIn(folder)) if (name.endsWith(".draft")) rmSync(join(folder, name));
    for (const name of filesIn(join(run, "states"))) rmSync(join(run, "states", name));
    for (const name of filesIn(join(run, "replies"))) if (!this.#done.has(name)) rmSync(join(run, "replies", name));
  }
}

/** Refuse names from a peer that cannot be those of files. */
export function checkNames(runId: string, messageId = "-"): void {
  if (!RUN_ID.test(runId) || !MESSAGE_ID.test(messageId)) {
    throw protocolError(`run ${runId.slice(0, 100)}, message ${messageId.slice(0, 100)}: no such names`);
  }
}

const filesIn = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);

function write(file: string, buffers: Uint8Array[]): ObjectName {
  const hash = createHash("sha256");
  let size = 0;
  const fd = openSync(file, "w");
  try {
    for (const buffer of buffers) {
      hash.update(buffer);
      for (let at = 0; at < buffer.length; ) at += writeSync(fd, buffer, at);
      size += buffer.length;
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return { hash: hash.digest("hex"), size_bytes: String(size) };
}
