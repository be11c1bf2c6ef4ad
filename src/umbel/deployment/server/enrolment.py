"""The server's end of ``Enrolment``: a token becomes a certificate of one's own."""

from __future__ import annotations

from typing import Any

import grpc.aio

from umbel.base import UmbelError
from umbel.coordinator import NodeJoined, TokenUsed
from umbel.deployment.certificates import Authority, Principal, request_fingerprint
from umbel.deployment.errors import abort_with
from umbel.deployment.server.callers import Callers
from umbel.deployment.server.plane import Plane
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import EnrolmentServicer

CERTIFICATE_DAYS = 365


class EnrolmentService(EnrolmentServicer):
    """Gives certificates to those who show the bootstrap certificate of a join token."""

    def __init__(self, plane: Plane, callers: Callers, authority: Authority) -> None:
        self._plane = plane
        self._callers = callers
        self._authority = authority

    async def Enrol(  # noqa: N802  the name is the wire's
        self, request: wire.EnrolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.EnrolReply:
        try:
            principal = self._callers.known(context).require("join").principal
            assert principal is not None  # there is no enrolment without TLS
            fingerprint = request_fingerprint(request.certificate_request)
            who = self._admit(principal.name, fingerprint, request)
            certificate = self._authority.sign_request(
                request.certificate_request, who, CERTIFICATE_DAYS
            )
        except UmbelError as error:
            await abort_with(context, error)
        return wire.EnrolReply(certificate=certificate, principal=f"{who.role}/{who.name}")

    def _admit(self, token_id: str, fingerprint: str, request: wire.EnrolRequest) -> Principal:
        """Use the token up, and return who its bearer is from now on."""
        plane, now = self._plane, self._plane.clock.now()
        token = plane.state.tokens.get(token_id)
        if token is not None and token.role != "node":
            plane.submit(TokenUsed(at=now, token=token_id, fingerprint=fingerprint))
            role = "admin" if token.role == "admin" else "user"
            return Principal(role, token.name or request.name)
        plane.submit(
            NodeJoined(
                at=now,
                name=request.name,
                fingerprint=fingerprint,
                tags=dict(request.tags),
                token=token_id,
            )
        )
        node = plane.state.node_of(fingerprint)
        assert node is not None  # it has just joined
        return Principal("node", str(node.id))
