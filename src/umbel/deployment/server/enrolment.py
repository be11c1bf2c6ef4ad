"""The server's end of ``Enrolment``: a token, or a certificate that ends, becomes a new one."""

from __future__ import annotations

from typing import Any

import grpc.aio

from umbel.base import NotAllowed, NotAuthenticated
from umbel.coordinator import NodeJoined, TokenCreated, TokenUsed
from umbel.deployment.authority import Authority
from umbel.deployment.certificates import Principal, key_fingerprint
from umbel.deployment.errors import refusing
from umbel.deployment.server.callers import Callers
from umbel.deployment.server.plane import Plane
from umbel.deployment.tokens import Grant, grant_of
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import EnrolmentServicer


class EnrolmentService(EnrolmentServicer):
    """Gives certificates to those who show a join token's bootstrap certificate, or their own."""

    def __init__(
        self, plane: Plane, callers: Callers, authority: Authority, certificate_days: float
    ) -> None:
        self._plane = plane
        self._callers = callers
        self._authority = authority
        self._days = certificate_days

    @refusing
    async def Enrol(  # noqa: N802  the name is the wire's
        self, request: wire.EnrolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.EnrolReply:
        caller = self._callers.known(context).require("join")
        assert caller.principal is not None  # there is no enrolment without TLS
        who = await self._admit(grant_of(caller.principal), request)
        return self._signed(request.certificate_request, who)

    @refusing
    async def Renew(  # noqa: N802
        self, request: wire.RenewRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.EnrolReply:
        caller = self._callers.known(context).require("node", "user", "admin")
        assert caller.principal is not None  # there is no enrolment without TLS
        if self._plane.clock.now() > caller.valid_until:
            raise NotAuthenticated(
                "the certificate has expired on this connection", hint="join with a new token"
            )
        if key_fingerprint(request.certificate_request) != caller.key:
            raise NotAllowed(
                "the request is for another key than the certificate that is shown",
                hint="renew with the same key; join with a new token for a new one",
            )
        return self._signed(request.certificate_request, caller.principal)

    def _signed(self, request_pem: bytes, who: Principal) -> wire.EnrolReply:
        certificate = self._authority.sign_request(request_pem, who, self._days)
        return wire.EnrolReply(certificate=certificate, principal=str(who))

    async def _admit(self, grant: Grant, request: wire.EnrolRequest) -> Principal:
        """Use the token up, and return who its bearer is from now on."""
        plane, now = self._plane, self._plane.clock.now()
        grant.check_fresh(now)
        if grant.token_id not in plane.state.tokens:
            # Made on the server's machine by whoever holds the authority's key.
            await plane.submit(
                TokenCreated(
                    at=now,
                    token=grant.token_id,
                    role=grant.role,
                    name=grant.name or "",
                    expires_at=grant.expires_at,
                )
            )
        key = key_fingerprint(request.certificate_request)
        if grant.role != "node":
            await plane.submit(TokenUsed(at=now, token=grant.token_id, fingerprint=key))
            return Principal(grant.role, grant.name or request.name)
        await plane.submit(
            NodeJoined(
                at=now,
                name=grant.name or request.name,
                fingerprint=key,
                tags=dict(request.tags),
                token=grant.token_id,
            )
        )
        node = plane.state.node_of(key)
        assert node is not None  # it has just joined
        return Principal("node", str(node.id))
