/** Errors, as they are told and as they come over the wire. */
import { type ServiceError, status } from "@grpc/grpc-js";

/** Why there is no reply; the numbers are the wire's. */
export const ErrorCode = {
  UNKNOWN: 0,
  HANDLER_RAISED: 2,
  MESSAGE_UNAVAILABLE: 3,
  REPLY_UNAVAILABLE: 4,
  INVALID_APP: 7,
} as const;

/** An error with a code such as "U303", and a hint what to do about it. */
export class UmbelError extends Error {
  /** Whether the connection failed and not what was asked: the same may succeed later. */
  readonly mayPass: boolean;

  constructor(
    readonly code: string,
    message: string,
    readonly hint = "",
  ) {
    super(message);
    this.name = NAMES[code] ?? "UmbelError";
    this.mayPass = code === "U305" || code === "U300";
  }

  override toString(): string {
    return `[${this.code}] ${this.message}${this.hint ? `. Hint: ${this.hint}` : ""}`;
  }
}

const NAMES: Record<string, string> = {
  U100: "UsageError",
  U101: "ConfigError",
  U103: "RecordError",
  U300: "PeerError",
  U303: "ProtocolError",
  U304: "VersionMismatch",
  U305: "Unreachable",
  U307: "NotFound",
  U401: "NotAuthenticated",
  U500: "StateError",
};

const CODE_OF_STATUS: Partial<Record<status, string>> = {
  [status.UNAVAILABLE]: "U305",
  [status.UNAUTHENTICATED]: "U401",
  [status.NOT_FOUND]: "U307",
  [status.FAILED_PRECONDITION]: "U304",
  [status.UNIMPLEMENTED]: "U304",
  [status.DATA_LOSS]: "U303",
  [status.INVALID_ARGUMENT]: "U100",
};

export const protocolError = (message: string, hint = "") => new UmbelError("U303", message, hint);
export const unreachable = (message: string) => new UmbelError("U305", message);
export const recordError = (message: string, hint = "") => new UmbelError("U103", message, hint);

/** Return the error that a failed call means: its detail is "code|message|hint". */
export function fromStatus(error: unknown): UmbelError {
  if (error instanceof UmbelError) return error;
  const { details, code } = error as Partial<ServiceError>;
  if (details === undefined) return new UmbelError("U500", String(error)); // of this machine
  const text = details;
  const [name, message, ...hint] = text.split("|");
  if (name !== undefined && message !== undefined && /^U[0-9]{3}$/.test(name)) {
    return new UmbelError(name, message, hint.join("|"));
  }
  const known = code === undefined ? undefined : CODE_OF_STATUS[code];
  return new UmbelError(known ?? "U300", `the connection failed: ${text}`);
}
