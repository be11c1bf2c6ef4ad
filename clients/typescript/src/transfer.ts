/** Objects to and from the server, in chunks: a cut transfer goes on where it was cut. */
import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, mkdirSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { fromStatus, protocolError } from "./errors.js";
import { COMPRESSION_NONE, type Chunk, type ObjectName, type ObjectsClient, type PushReply, type StatReply } from "./wire.js";

const CHUNK_BYTES = 1024 * 1024;
const ATTEMPTS = 3;
const NAME = /^[0-9a-f]{64}$/;

/** Return the bytes of a file of any size that fits into a buffer. */
export function readAll(file: string): Buffer {
  const fd = openSync(file, "r");
  try {
    const bytes = Buffer.allocUnsafe(statSync(file).size);
    for (let at = 0; at < bytes.length; ) {
      const count = readSync(fd, bytes, at, Math.min(1 << 30, bytes.length - at), at);
      if (count === 0) throw new Error(`${file} ends early`);
      at += count;
    }
    return bytes;
  } finally {
    closeSync(fd);
  }
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(file, { highWaterMark: CHUNK_BYTES })) hash.update(piece as Buffer);
  return hash.digest("hex");
}

/** Run transfers until one succeeds or three in a row brought no byte further. */
async function persist(attempt: (progress: (offset: number) => void) => Promise<void>): Promise<void> {
  let failures = 0;
  let best = -1;
  const progress = (offset: number) => {
    if (offset > best) [failures, best] = [0, offset];
  };
  for (;;) {
    try {
      return await attempt(progress);
    } catch (error) {
      const problem = fromStatus(error);
      if (!problem.mayPass || ++failures >= ATTEMPTS) throw problem;
    }
  }
}

/** Fetch an object into a folder unless it lies there; return its file. */
export async function pull(objects: ObjectsClient, item: ObjectName, folder: string, signal: AbortSignal): Promise<string> {
  if (!NAME.test(item.hash)) throw protocolError(`${item.hash.slice(0, 100)} names no object`);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, item.hash);
  const part = `${file}.part`;
  if (existsSync(file)) return file;
  await persist(async (progress) => {
    const stored = existsSync(part) ? statSync(part).size : 0;
    progress(stored);
    await pullFrom(objects, item, part, stored, signal);
    if ((await hashOf(part)) !== item.hash) {
      rmSync(part);
      throw protocolError(`the bytes of object ${item.hash.slice(0, 12)} do not have the hash that it is named by`);
    }
    renameSync(part, file);
  });
  return file;
}

async function pullFrom(objects: ObjectsClient, item: ObjectName, part: string, begin: number, signal: AbortSignal) {
  const size = Number(item.size_bytes);
  let offset = begin;
  const fd = openSync(part, "a");
  const call = objects.Pull({ object: item, offset: String(offset), accepts: [COMPRESSION_NONE] });
  const cancel = () => call.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    signal.throwIfAborted();
    if (offset >= size) return;
    for await (const chunk of call as AsyncIterable<Chunk>) {
      if (Number(chunk.offset) !== offset || offset + chunk.data.length > size || chunk.compression !== COMPRESSION_NONE) {
        throw protocolError(`${chunk.data.length} bytes at ${chunk.offset}, where ${offset} comes next of ${size}`);
      }
      writeSync(fd, chunk.data);
      offset += chunk.data.length;
    }
    if (offset !== size) throw protocolError(`the server sent ${offset} of ${size} bytes`);
  } finally {
    signal.removeEventListener("abort", cancel);
    call.on("error", () => undefined); // of the cancellation itself
    call.cancel();
    closeSync(fd);
  }
}

/** Store an object at the server, beginning with the first byte that it lacks. */
export async function push(objects: ObjectsClient, item: ObjectName, file: string): Promise<void> {
  await persist(async (progress) => {
    const { complete, stored_bytes } = await new Promise<StatReply>((resolve, reject) => {
      objects.Stat({ hashes: [item.hash], sizes_bytes: [item.size_bytes] }, (error, reply) => (error ? reject(error) : resolve(reply)));
    });
    if (complete[0]) return;
    const stored = Number(stored_bytes[0] ?? 0);
    progress(stored);
    const reply = await pushFrom(objects, item, file, stored);
    if (reply.stored_bytes !== item.size_bytes) {
      throw protocolError(`the server stored ${reply.stored_bytes} of ${item.size_bytes} bytes`);
    }
  });
}

async function pushFrom(objects: ObjectsClient, item: ObjectName, file: string, begin: number): Promise<PushReply> {
  let ended = false;
  let call!: ReturnType<ObjectsClient["Push"]>;
  const done = new Promise<PushReply>((resolve, reject) => {
    call = objects.Push((error, reply) => {
      ended = true;
      call.destroy(); // ends a wait for room
      if (error) reject(error);
      else resolve(reply);
    });
    call.on("error", () => undefined); // told by the callback
  });
  done.catch(() => undefined);
  let offset = begin;
  let object: ObjectName | undefined = item;
  const send = async (data: Buffer) => {
    const chunk = { offset: String(offset), data, compression: COMPRESSION_NONE };
    const hasRoom = call.write(object ? { object, chunk } : { chunk });
    object = undefined;
    offset += data.length;
    if (!hasRoom && !ended) await Promise.race([once(call, "drain"), once(call, "close")]);
  };
  for await (const piece of createReadStream(file, { start: begin, highWaterMark: CHUNK_BYTES })) {
    if (ended) break;
    await send(piece as Buffer);
  }
  if (object !== undefined && !ended) await send(Buffer.alloc(0)); // only the end was not told
  if (!ended) call.end();
  return await done;
}
