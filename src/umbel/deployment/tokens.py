"""Join tokens: one text that lets a node or a user ask a server for a certificate, once.

A token pins the server's authority and carries a bootstrap certificate, with its key, of the role
``join``. So one port serves enrolment and everything else, all of it under mutual TLS.

What a token grants stands in its id, and the id in that certificate, under the authority's
signature: a server needs no list of the tokens it has made, only one of those that were used.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from umbel.base import (
    SYSTEM_CLOCK,
    Clock,
    ConfigError,
    NotAuthenticated,
    TokenExpired,
    VersionMismatch,
    new_id,
)
from umbel.deployment.addresses import split_address
from umbel.deployment.certificates import Principal, day_text, make_request, new_key

if TYPE_CHECKING:
    from umbel.deployment.authority import Authority

GRACE_DAYS = 30.0
"""How long a token's certificate outlives it, so that the server can say that it expired."""
TOKEN_TTL_MAX_S = 366 * 86_400.0
TOKEN_MAX_CHARS = 16_384
"""The longest text that is read from a file as a token."""

GrantedRole = Literal["node", "user", "admin"]

_VERSION = "umbel1"
_GRANT = re.compile(r"(node|user|admin)\.([0-9]{1,11})\.([0-9a-f]{16})(?:\.(.+))?")
_NAME_MAX_CHARS = 64
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token's id says: the text that the bootstrap certificate holds as its name.

    Attributes
    ----------
    token_id : str
        ``"<role>.<expiry>.<16 random digits>[.<name>]"``.
    role : str
        The role to be given, ``"node"``, ``"user"`` or ``"admin"``.
    name : str or None
        The name to be given; None leaves it to the server.
    expires_at : float
        Seconds since the Unix epoch.
    """

    token_id: str
    role: GrantedRole
    name: str | None
    expires_at: float

    def expired(self, now: float) -> bool:
        """Return whether the token's time has passed; ``now`` in seconds since the epoch."""
        return now > self.expires_at

    def check_fresh(self, now: float) -> None:
        """Refuse a token whose time has passed.

        Raises
        ------
        TokenExpired
            If it has.
        """
        if self.expired(now):
            raise TokenExpired(
                f"the token expired on {day_text(self.expires_at)}",
                hint="make another with `umbel token create`; are both clocks right?",
                token=self.token_id,
            )


def grant_of(principal: Principal) -> Grant:
    """Return what the bearer of a bootstrap certificate may ask for.

    Parameters
    ----------
    principal : Principal
        Of the peer's certificate, which TLS has proved.

    Raises
    ------
    NotAuthenticated
        If it is not that of a token.
    """
    match = _GRANT.fullmatch(principal.name) if principal.role == "join" else None
    if match is None:
        raise NotAuthenticated(
            f"{principal} has a certificate already, or none that a token carries",
            hint="join with a token from: umbel token create",
        )
    role, expires_at, _, name = match.groups()
    return Grant(principal.name, role, name, float(expires_at))  # type: ignore[arg-type]


def granted_role(text: str) -> GrantedRole:
    """Return the role that a text names.

    Raises
    ------
    ConfigError
        If it is none that a token can give.
    """
    for role in get_args(GrantedRole):
        if role == text:
            return cast(GrantedRole, role)
    raise ConfigError(f"no token gives the role {text!r}", hint="one of node, user, admin")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a node or a user needs to join a server.

    Attributes
    ----------
    addresses : tuple of str
        Where the server can be reached, each ``"host:port"``, to be tried in turn.
    ca_pem : bytes
        The certificate of the server's authority: no other server is believed.
    token_id : str
        Names the token for ever; it is no secret.
    role : str
        ``"node"``, ``"user"`` or ``"admin"``.
    name : str or None
        The name to be given, if whoever made the token chose one.
    expires_at : float
        Seconds since the Unix epoch.
    cert_pem, key_pem : bytes
        The bootstrap certificate and its key, which is the token's secret.
    """

    addresses: tuple[str, ...]
    ca_pem: bytes
    token_id: str
    role: GrantedRole
    name: str | None
    expires_at: float
    cert_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return f"JoinToken({self.token_id!r}, {self.addresses})"  # its key belongs into no log

    def expired(self, now: float) -> bool:
        """Return whether its time has passed; ``now`` in seconds since the epoch."""
        return now > self.expires_at

    def encode(self) -> str:
        """Return the token as one line of text, under 2,500 characters."""
        fields = {
            "at": list(self.addresses),
            "ca": _body(self.ca_pem),
            "id": self.token_id,
            "cert": _body(self.cert_pem),
            "key": _body(self.key_pem),
        }
        text = json.dumps(fields, separators=(",", ":")).encode()
        return f"{_VERSION}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}"

    @classmethod
    def decode(cls, text: str) -> JoinToken:
        """Read what ``encode`` wrote, or ``@FILE`` for a file that holds it.

        White space in the text, such as line ends from an e-mail, is ignored. Whether the token
        has expired is for the server to say, by its own clock.

        Raises
        ------
        ConfigError
            If it is no token, is cut short, or the file cannot be read.
        VersionMismatch
            If another release of Umbel made it, in a form that this one does not know.
        """
        if text.startswith("@"):
            text = _read(Path(text[1:]))
        version, dot, payload = "".join(text.split()).partition(".")
        if not (dot and re.fullmatch(r"umbel[0-9]+", version)):
            raise ConfigError(
                "this is not a join token",
                hint=f"a token begins with {_VERSION}. and comes from: umbel token create",
            )
        if version != _VERSION:
            raise VersionMismatch(
                f"the token is of the form {version}, this release reads {_VERSION}",
                hint="bring the server and this machine to the same release of Umbel",
            )
        try:
            return cls._from_fields(_fields(payload))
        except (ValueError, KeyError, TypeError, RecursionError, NotAuthenticated) as error:
            raise ConfigError(
                "the token is cut short or was changed",
                hint="copy the whole text, or hand it over in a file: @token.txt",
                length=len(payload),
            ) from error

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> JoinToken:
        try:
            grant = grant_of(Principal("join", fields["id"]))
            addresses = tuple(fields["at"])
            for address in addresses:
                split_address(address)
        except ConfigError as error:
            raise ValueError(error.message) from error
        if not addresses:
            raise ValueError("no address")
        return cls(
            addresses=addresses,
            ca_pem=_pem("CERTIFICATE", fields["ca"]),
            token_id=grant.token_id,
            role=grant.role,
            name=grant.name,
            expires_at=grant.expires_at,
            cert_pem=_pem("CERTIFICATE", fields["cert"]),
            key_pem=_pem("PRIVATE KEY", fields["key"]),
        )


def create_token(
    authority: Authority,
    role: GrantedRole,
    addresses: Sequence[str],
    ttl_s: float,
    name: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> JoinToken:
    """Make a join token.

    Parameters
    ----------
    authority : Authority
        The server's.
    role : str
        ``"node"``, ``"user"`` or ``"admin"``.
    addresses : sequence of str
        Where the server can be reached, each ``"host:port"``.
    ttl_s : float
        How long the token can be used, in seconds.
    name : str, optional
        The name to be given, at most 64 characters; a user needs one.

    Raises
    ------
    ConfigError
        If an argument is wrong.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from umbel.deployment.authority import Authority
    >>> with TemporaryDirectory() as folder:
    ...     authority = Authority.create(folder, "clinics")
    >>> token = create_token(authority, "node", ["localhost:9050"], ttl_s=3600)
    >>> JoinToken.decode(token.encode()) == token
    True
    """
    if not 0 < ttl_s <= TOKEN_TTL_MAX_S:
        raise ConfigError(
            f"a token cannot be valid for {ttl_s} seconds", hint="3600 is an hour; at most a year"
        )
    if not addresses:
        raise ConfigError(
            "a token needs an address, and where others reach the server is not known",
            hint="start it first, with umbel server --address HOST:PORT if it listens on 0.0.0.0; "
            "or umbel token create --data DIR --address HOST:PORT",
        )
    for address in addresses:
        split_address(address)
    if name is None and role in ("user", "admin"):
        raise ConfigError(f"a token for the role {role} needs a name", hint="--name alice")
    if name is not None and len(Principal(role, name).name) > _NAME_MAX_CHARS:
        raise ConfigError(f"the name is longer than {_NAME_MAX_CHARS} characters", name=name)
    expires_at = math.ceil(clock.now() + ttl_s)
    token_id = ".".join([role, str(expires_at), new_id()[:16], *([name] if name else [])])
    bearer = Principal("join", token_id)
    grant = grant_of(bearer)
    key_pem = new_key()
    request = make_request(key_pem)
    cert_pem = authority.sign_request(request, bearer, ttl_s / _DAY_S + GRACE_DAYS)
    return JoinToken(
        addresses=tuple(addresses),
        ca_pem=authority.ca_pem,
        token_id=token_id,
        role=grant.role,
        name=name,
        expires_at=grant.expires_at,
        cert_pem=cert_pem,
        key_pem=key_pem,
    )


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as stream:
            return stream.read(TOKEN_MAX_CHARS)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the token's file cannot be read: {error}", hint="write @ and the file's path"
        ) from error


def _fields(payload: str) -> dict[str, Any]:
    padded = payload + "=" * (-len(payload) % 4)
    fields = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    if not isinstance(fields, dict):
        raise TypeError("the payload is no JSON object")
    return fields


def _body(pem: bytes) -> str:
    """Return the base64 between PEM's first and last line, in one piece."""
    return b"".join(pem.strip().splitlines()[1:-1]).decode()


def _pem(label: str, body: str) -> bytes:
    """Return PEM of the base64 that ``_body`` cut out."""
    base64.b64decode(body, validate=True)
    lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()
