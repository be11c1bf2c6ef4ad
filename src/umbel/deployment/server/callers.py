"""Who calls: what a certificate says, or anyone where there is no TLS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import grpc.aio

from umbel.base import NotAllowed, NotAuthenticated
from umbel.deployment.certificates import Principal, certified_key, principal_of, valid_until


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who calls.

    Attributes
    ----------
    principal : Principal or None
        What the certificate says; ``None`` without TLS, where everybody may do everything.
    valid_until : float
        When the certificate ends, in seconds since the Unix epoch; a connection may outlive it.
    key : str
        The SHA-256 of the certificate's key; empty without TLS.
    """

    principal: Principal | None
    valid_until: float = inf
    key: str = ""

    @property
    def name(self) -> str:
        """The name under which runs are kept."""
        return "anyone" if self.principal is None else self.principal.name

    @property
    def is_admin(self) -> bool:
        """Whether others' runs, nodes and tokens are for this caller."""
        return self.principal is None or self.principal.role == "admin"

    @property
    def node_id(self) -> int | None:
        """The node that calls, if the certificate is one's."""
        known = self.principal is not None and self.principal.role == "node"
        return int(self.principal.name) if known and self.principal is not None else None

    def require(self, *roles: str) -> Caller:
        """Return the caller, if its role is one of these.

        Raises
        ------
        NotAllowed
            It is another.
        """
        if self.principal is not None and self.principal.role not in roles:
            raise NotAllowed(
                f"a certificate of role {self.principal.role!r} does not open this",
                hint=f"this is for {' and '.join(roles)}; ask the server's admin for a token",
            )
        return self


class Callers:
    """Tells who calls.

    Parameters
    ----------
    insecure : bool
        Whether the server runs without TLS.
    check : callable
        Called with whoever has a certificate, each time; raises if it does not count any more.
    """

    def __init__(self, *, insecure: bool, check: Callable[[Caller], None]) -> None:
        self._insecure = insecure
        self._check = check
        self._by_certificate: dict[bytes, Caller] = {}

    def known(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Return who calls.

        Raises
        ------
        NotAuthenticated
            There is no certificate, or none of ours.
        Revoked
            The certificate was revoked.
        """
        if self._insecure:
            return Caller(None)
        shown = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        if shown is None:
            raise NotAuthenticated("no certificate was shown", hint="join with a token first")
        caller = self._by_certificate.get(shown)
        if caller is None:
            caller = Caller(principal_of(shown), valid_until(shown), certified_key(shown))
            if len(self._by_certificate) >= 10_000:
                self._by_certificate.clear()
            self._by_certificate[shown] = caller
        self._check(caller)
        return caller
