/** Joining a server with a token: a key of one's own, and a certificate for it. */
import { X509Certificate, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join as path } from "node:path";
import { credentials } from "@grpc/grpc-js";
import { UmbelError, fromStatus } from "./errors.js";
import { Server, type TlsFiles } from "./wire.js";

/** What a node needs to connect from now on: `new UmbelNode({...(await join(token, dir))})`. */
export interface Joined {
  address: string;
  dataDir: string;
  tls: TlsFiles;
}

/**
 * Return how to connect: by what the folder holds, or else by a token from `umbel token create`.
 *
 * A token is good once; a node that has joined needs none. One whose certificate has expired joins again, and
 * keeps its key and by it its number.
 */
export async function join(token: string, dataDir: string, name = hostname(), tags: Record<string, string> = {}): Promise<Joined> {
  const folder = path(dataDir, "identity");
  const file = (part: string) => path(folder, part);
  const tls = { ca: file("ca.pem"), key: file("key.pem"), cert: file("cert.pem"), renews: true };
  if (existsSync(tls.cert) && Date.parse(new X509Certificate(readFileSync(tls.cert)).validTo) > Date.now()) {
    return { address: readFileSync(file("address"), "utf8"), dataDir, tls };
  }
  const { at, ca, cert, key } = fieldsOf(token);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (!existsSync(tls.key)) writeFileSync(tls.key, newKey(), { mode: 0o600, flush: true });
  const shown = credentials.createSsl(pem("CERTIFICATE", ca), pem("PRIVATE KEY", key), pem("CERTIFICATE", cert));
  const request = certificateRequest(readFileSync(tls.key, "utf8"));
  let failure = new UmbelError("U305", "the token holds no address");
  for (const address of at) {
    const server = new Server(address, shown);
    try {
      const certificate = await new Promise<Buffer>((resolve, reject) => {
        server.enrolment.Enrol({ name, certificate_request: request, tags }, (error, reply) =>
          error ? reject(error) : resolve(reply.certificate),
        );
      });
      writeFileSync(file("address"), address, { flush: true });
      writeFileSync(tls.ca, pem("CERTIFICATE", ca), { flush: true });
      writeFileSync(tls.cert, certificate, { flush: true }); // last: with it the node has joined
      return { address, dataDir, tls };
    } catch (error) {
      failure = fromStatus(error);
      if (failure.code !== "U305") throw failure;
    } finally {
      server.close();
    }
  }
  throw failure;
}

interface Fields { at: string[]; ca: string; cert: string; key: string }

function fieldsOf(token: string): Fields {
  const [version, payload] = token.replaceAll(/\s/g, "").split(".");
  if (version !== "umbel1" || !payload) {
    throw new UmbelError("U101", "this is no join token", "it begins with umbel1. and comes from: umbel token create");
  }
  try {
    return JSON.parse(Buffer.from(payload, "base64url").toString("utf8")) as Fields;
  } catch {
    throw new UmbelError("U101", "the token is cut short or was changed", "copy the whole text");
  }
}

const newKey = () =>
  generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey.export({ type: "pkcs8", format: "pem" });

/** Return a certificate request (PKCS #10, PEM) that names nobody and proves to hold the key. */
export function certificateRequest(keyPem: string): Buffer {
  const key = createPrivateKey(keyPem);
  const publicKey = createPublicKey(key).export({ type: "spki", format: "der" });
  const info = der(0x30, der(0x02, Buffer.from([0])), der(0x30), publicKey, der(0xa0));
  const ecdsaWithSha256 = der(0x30, der(0x06, Buffer.from("2a8648ce3d040302", "hex")));
  const signature = der(0x03, Buffer.from([0]), sign("sha256", info, key));
  return pem("CERTIFICATE REQUEST", der(0x30, info, ecdsaWithSha256, signature).toString("base64"));
}

/** Return an element of ASN.1 in DER: its tag, its length, its parts. */
function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const size = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

function pem(label: string, body: string): Buffer {
  const lines = body.match(/.{1,64}/g) ?? [];
  return Buffer.from(`-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`);
}
