/** A node against a small server in this process, over real sockets. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { ArrayRecord, MetricRecord, NDArray, RecordDict, UmbelNode, decode, encode, type NodeEvent } from "../src/index.js";
import { Journal } from "../src/journal.js";
import { certificateRequest } from "../src/joining.js";
import { services, type FromNode, type Hello, type Reply, type Task, type ToNode } from "../src/wire.js";

type Stream = grpc.ServerDuplexStream<FromNode, ToNode>;

/** A node's stream as the server sees it: what comes is read one by one. */
class Seat {
  readonly #incoming: AsyncIterator<FromNode & { kind: string }>;

  constructor(readonly stream: Stream) {
    stream.on("error", () => undefined);
    this.#incoming = (stream as AsyncIterable<FromNode & { kind: string }>)[Symbol.asyncIterator]();
  }

  async next(): Promise<FromNode & { kind: string }> {
    for (;;) {
      const { value } = await this.#incoming.next();
      if (value.kind !== "heartbeat") return value;
    }
  }

  async greet(): Promise<Hello> {
    const { hello } = (await this.next()) as unknown as { hello: Hello };
    this.stream.write({ welcome: { protocol: 1, node_id: "7", software: "test", heartbeat_s: 30, codec: "safetensors" } });
    return hello;
  }

  async reply(): Promise<Reply> {
    const message = await this.next();
    assert.equal(message.kind, "reply");
    return (message as unknown as { reply: Reply }).reply;
  }
}

async function listening(body: (port: number, seat: () => Promise<Seat>) => Promise<void>): Promise<void> {
  const seats: Seat[] = [];
  const waiting: ((seat: Seat) => void)[] = [];
  const server = new grpc.Server();
  server.addService(services.Nodes.service, {
    Connect: (stream: Stream) => {
      const seat = new Seat(stream);
      const taker = waiting.shift();
      if (taker) taker(seat);
      else seats.push(seat);
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  try {
    await body(port, () => new Promise((resolve) => (seats.length ? resolve(seats.shift()!) : waiting.push(resolve))));
  } finally {
    server.forceShutdown();
  }
}

function task(id: string, type = "train"): Task {
  const arrays = new ArrayRecord({ w: NDArray.of(Float32Array.from([1, 2])) });
  return {
    message_id: id,
    run: { run_id: "run-1", client_app: "a:b", run_config: '{"lr": 0.5}' },
    message_type: type,
    group_id: "1",
    created_at: 0,
    ttl_s: 60,
    body: null,
    records: Buffer.concat(encode(new RecordDict({ arrays }))),
  };
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "umbel-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("a node answers, keeps its state, and sends again after a restart what was not acknowledged", () =>
  inFolder(async (dataDir) => {
    await listening(async (port, seat) => {
      const life = async (body: (node: Seat, hello: Hello) => Promise<void>) => {
        const leave = new AbortController();
        const events: NodeEvent[] = [];
        const node = new UmbelNode({ address: `127.0.0.1:${port}`, dataDir, name: "n", onEvent: (event) => events.push(event) });
        node.train(({ content }, { state, runConfig, nodeId, nodeConfig }) => {
          const seen = state.has("seen") ? (state.metrics("seen").get("n") as bigint) : 0n;
          state.set("seen", new MetricRecord({ n: seen + 1n }));
          const sum = content.arrays().array("w", Float32Array).data.reduce((a, b) => a + b);
          assert.deepEqual([nodeId, nodeConfig["partition-id"]], [7n, 7]);
          return { metrics: new MetricRecord({ seen: seen + 1n, sum, lr: Number(runConfig["lr"]) }) };
        });
        node.query(() => Promise.reject(new TypeError("no data")), "fail");
        const running = node.run(leave.signal);
        const taken = await seat();
        await body(taken, await taken.greet());
        leave.abort();
        await running;
      };
      let secret: Uint8Array;
      await life(async (node, hello) => {
        secret = hello.secret;
        assert.ok(secret.length >= 16);
        node.stream.write({ kind: "task", task: task("m-1") } as ToNode);
        assert.deepEqual(await node.next().then(({ kind }) => kind), "accepted");
        const metrics = decode((await node.reply()).content!).metrics();
        assert.deepEqual([...metrics], [["seen", 1n], ["sum", 3], ["lr", 0.5]]);
        node.stream.write({ kind: "task", task: task("m-2", "query.fail") } as ToNode);
        await node.next();
        assert.deepEqual((await node.reply()).failure, { code: 2, kind: "TypeError", reason: "no data" });
        node.stream.write({ ack: { message_id: "m-2" } } as ToNode);
        node.stream.write({ kind: "task", task: task("m-3") } as ToNode);
        await node.next();
        assert.equal(decode((await node.reply()).content!).metrics().get("seen"), 2n);
      });
      await life(async (node, hello) => {
        assert.deepEqual(hello.secret, secret);
        assert.deepEqual(hello.held, ["m-1", "m-3"]);
        const again = [await node.reply(), await node.reply()];
        assert.deepEqual(again.map(({ message_id }) => message_id), ["m-1", "m-3"]);
        node.stream.write({ kind: "task", task: task("m-4") } as ToNode);
        await node.next();
        assert.equal(decode((await node.reply()).content!).metrics().get("seen"), 3n);
      });
    });
  }));

test("opening the journal finishes a task that was done, and drops one that was not", () =>
  inFolder(async (folder) => {
    const bytes = [Buffer.from("reply")];
    const first = new Journal(folder);
    const { object } = first.succeed("run-1", "m-1", bytes, [Buffer.from("new")]);
    assert.equal(object?.hash, createHash("sha256").update("reply").digest("hex"));
    const second = new Journal(folder);
    assert.deepEqual(second.done().map(({ messageId }) => messageId), ["m-1"]);
    assert.equal(second.state("run-1")?.toString(), "new");
    rmSync(second.replyFile(second.done()[0]!)); // as if it was being forgotten
    assert.deepEqual(new Journal(folder).done(), []);
    assert.throws(() => first.fail("../up", "m", { code: 2, kind: "", reason: "" }), { name: "ProtocolError" });
  }));

test("a certificate request is one, for its key", async () => {
  const { generateKeyPairSync } = await import("node:crypto");
  const key = generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey.export({ type: "pkcs8", format: "pem" });
  assert.match(certificateRequest(String(key)).toString(), /^-----BEGIN CERTIFICATE REQUEST-----\n/);
});
