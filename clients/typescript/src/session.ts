/** One session with the server: the greeting, what is sent, what comes. */
import { credentials as grpcCredentials, type ClientDuplexStream } from "@grpc/grpc-js";
import { UmbelError, fromStatus, protocolError, unreachable } from "./errors.js";
import { Server, type FromNode, type Hello, type ToNode, type Welcome } from "./wire.js";

export const PROTOCOL = 1;
export const CODEC = "safetensors";

const GREETING_MS = 30_000;

type Credentials = ReturnType<typeof grpcCredentials.createInsecure>;

/** A session that the server has welcomed. */
export class Session {
  /** Aborted when the session has ended. */
  readonly lost: AbortSignal;
  readonly #ending = new AbortController();

  private constructor(
    readonly server: Server,
    readonly welcome: Welcome,
    readonly messages: AsyncIterator<ToNode>,
    readonly call: ClientDuplexStream<FromNode, ToNode>,
  ) {
    this.lost = this.#ending.signal;
  }

  /** Connect, greet the server, and be welcomed. */
  static async open(address: string, credentials: Credentials, hello: Hello): Promise<Session> {
    const server = new Server(address, credentials);
    const call = server.nodes.Connect();
    call.on("error", () => undefined); // told by the iteration below
    const timer = setTimeout(() => call.cancel(), GREETING_MS);
    try {
      call.write({ hello });
      const messages = (call as AsyncIterable<ToNode>)[Symbol.asyncIterator]();
      const first = await messages.next();
      if (first.done || !first.value.welcome) {
        throw protocolError("the server's first message is no welcome", "is it a server of Umbel?");
      }
      return new Session(server, checked(first.value.welcome), messages, call);
    } catch (error) {
      call.cancel();
      server.close();
      throw fromStatus(error);
    } finally {
      clearTimeout(timer);
    }
  }

  send(message: FromNode): void {
    if (this.lost.aborted || !this.call.writable) throw unreachable("the session has ended");
    this.call.write(message);
  }

  /** Give each message to `take`, with heartbeats meanwhile, until the session ends: then throw. */
  async serve(take: (message: ToNode) => void): Promise<never> {
    const pauseMs = Math.max(100, (this.welcome.heartbeat_s * 1000) / 2);
    const beat = setInterval(() => {
      if (this.call.writable) this.send({ heartbeat: { sent_at: Date.now() / 1000 } });
    }, pauseMs);
    try {
      for (;;) {
        const { done, value } = await this.messages.next();
        if (done) throw unreachable("the server ended the session");
        take(value);
      }
    } catch (error) {
      throw fromStatus(error);
    } finally {
      clearInterval(beat);
      this.close();
    }
  }

  close(): void {
    this.#ending.abort(unreachable("the session has ended"));
    this.call.cancel();
    this.server.close();
  }
}

function checked(welcome: Welcome): Welcome {
  if (welcome.protocol !== PROTOCOL) {
    throw new UmbelError(
      "U304",
      `the server speaks version ${welcome.protocol} of the wire and this node ${PROTOCOL}`,
      `upgrade the ${welcome.protocol > PROTOCOL ? "node" : "server"}`,
    );
  }
  if (welcome.codec !== "" && welcome.codec !== CODEC) throw protocolError(`the codec ${welcome.codec} was not offered`);
  return welcome;
}
