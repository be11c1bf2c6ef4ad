/** A certificate is renewed while its node is connected; the next connection shows the new one. */
import { X509Certificate } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { fromStatus } from "./errors.js";
import { certificateRequest } from "./joining.js";
import type { Server, TlsFiles } from "./wire.js";

const CHECK_MS = 3_600_000;

/** Renew the certificate whenever a third of its lifetime is left, until the function that comes back is called. */
export function keepCertificate(server: Server, tls: TlsFiles, say: (text: string) => void): () => void {
  const look = () => void renewInTime(server, tls, say);
  const timer = setInterval(look, CHECK_MS);
  look();
  return () => clearInterval(timer);
}

async function renewInTime(server: Server, tls: TlsFiles, say: (text: string) => void): Promise<void> {
  let what = "the certificate";
  try {
    const { validFrom, validTo } = new X509Certificate(readFileSync(tls.cert));
    const [begin, end] = [Date.parse(validFrom), Date.parse(validTo)];
    if (Date.now() < end - (end - begin) / 3) return;
    what += ` ends on ${validTo}, and`;
    const request = { certificate_request: certificateRequest(readFileSync(tls.key, "utf8")) };
    const certificate = await new Promise<Buffer>((resolve, reject) => {
      server.enrolment.Renew(request, (error, reply) => (error ? reject(error) : resolve(reply.certificate)));
    });
    writeFileSync(`${tls.cert}.draft`, certificate, { flush: true });
    renameSync(`${tls.cert}.draft`, tls.cert); // a crash leaves the old one or the new one
    say(`renewed: it ends on ${new X509Certificate(certificate).validTo}`);
  } catch (error) {
    say(`${what} was not renewed: ${String(fromStatus(error))} (trying again)`);
  }
}
