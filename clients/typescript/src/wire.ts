/** The wire's messages and services, as `umbel.proto` says, and connections to a server. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const WIRE_MESSAGE_MAX_BYTES = 8 * 1024 * 1024;

/** Chunks travel as they are: Node 20 has no zstd. */
export const COMPRESSION_NONE = 0;

// 64-bit numbers are text, because JavaScript's cannot hold them all.
export interface ObjectName { hash: string; size_bytes: string }
export interface Chunk { offset: string; data: Buffer; compression: number }
export interface RunInfo { run_id: string; client_app: string; run_config: string }
export interface Task {
  message_id: string;
  run: RunInfo | null;
  message_type: string;
  group_id: string;
  created_at: number;
  ttl_s: number;
  body: ObjectName | null;
  records: Buffer;
}
export interface Failure { code: number; kind: string; reason: string }
export interface Welcome { protocol: number; node_id: string; software: string; heartbeat_s: number; codec: string }
export interface ToNode {
  kind?: "welcome" | "task" | "ack" | "cancel" | "heartbeat" | "run_over" | "goodbye";
  welcome?: Welcome;
  task?: Task;
  ack?: { message_id: string };
  cancel?: { message_id: string; reason: string };
  run_over?: { run_id: string; final: boolean };
  goodbye?: { reason: string };
}
export interface Hello {
  protocol_min: number;
  protocol_max: number;
  software: string;
  name: string;
  secret: Uint8Array;
  tags: Record<string, string>;
  capacity: number;
  held: string[];
  codecs: string[];
  compressions: number[];
}
export interface Reply { message_id: string; body?: ObjectName; failure?: Failure; content?: Uint8Array }
export type FromNode =
  | { hello: Hello }
  | { accepted: { message_id: string } }
  | { reply: Reply }
  | { heartbeat: { sent_at: number } };
export interface StatReply { stored_bytes: string[]; complete: boolean[] }
export interface PushReply { stored_bytes: string }

type Callback<R> = (error: grpc.ServiceError | null, reply: R) => void;
export interface NodesClient extends grpc.Client {
  Connect(): grpc.ClientDuplexStream<FromNode, ToNode>;
}
export interface ObjectsClient extends grpc.Client {
  Stat(request: { hashes: string[]; sizes_bytes?: string[] }, done: Callback<StatReply>): grpc.ClientUnaryCall;
  Pull(request: { object: ObjectName; offset: string; accepts: number[] }): grpc.ClientReadableStream<Chunk>;
  Push(done: Callback<PushReply>): grpc.ClientWritableStream<{ object?: ObjectName; chunk: Chunk }>;
}
export interface EnrolmentClient extends grpc.Client {
  Enrol(
    request: { name: string; certificate_request: Uint8Array; tags: Record<string, string> },
    done: Callback<{ certificate: Buffer; principal: string }>,
  ): grpc.ClientUnaryCall;
  Renew(
    request: { certificate_request: Uint8Array },
    done: Callback<{ certificate: Buffer; principal: string }>,
  ): grpc.ClientUnaryCall;
}

const PROTO = fileURLToPath(new URL("../umbel.proto", import.meta.url));
const loaded = grpc.loadPackageDefinition(
  loadSync(PROTO, { keepCase: true, longs: String, enums: Number, defaults: true, oneofs: true }),
) as unknown as { umbel: { v1: Record<"Nodes" | "Objects" | "Enrolment", grpc.ServiceClientConstructor> } };

/** The services by name; a test serves them. */
export const services = loaded.umbel.v1;

const OPTIONS: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": WIRE_MESSAGE_MAX_BYTES,
  "grpc.max_send_message_length": WIRE_MESSAGE_MAX_BYTES,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.enable_http_proxy": 0,
  "grpc.use_local_subchannel_pool": 1,
};

/** Certificates for mutual TLS: files in PEM. */
export interface TlsFiles {
  /** The certificate of the authority that signed the server's. */
  ca: string;
  key: string;
  cert: string;
  /** Whether the node renews the certificate, in its file, before it ends; `join` says so. */
  renews?: boolean;
}

/** Return what TLS takes from files; without files nothing is encrypted. */
export function credentialsOf(tls?: TlsFiles): grpc.ChannelCredentials {
  if (tls === undefined) return grpc.credentials.createInsecure();
  return grpc.credentials.createSsl(readFileSync(tls.ca), readFileSync(tls.key), readFileSync(tls.cert));
}

/** A server's services over one connection. */
export class Server {
  readonly nodes: NodesClient;
  readonly objects: ObjectsClient;
  readonly enrolment: EnrolmentClient;

  constructor(address: string, credentials: grpc.ChannelCredentials) {
    this.nodes = new services.Nodes(address, credentials, OPTIONS) as unknown as NodesClient;
    const shared = { ...OPTIONS, channelOverride: this.nodes.getChannel() };
    this.objects = new services.Objects(address, credentials, shared) as unknown as ObjectsClient;
    this.enrolment = new services.Enrolment(address, credentials, shared) as unknown as EnrolmentClient;
  }

  close(): void {
    this.nodes.close();
  }
}
