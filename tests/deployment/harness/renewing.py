"""Servers in this process, and identities with certificates of some time ago."""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wire_peers import Peer

from umbel.base import SYSTEM_CLOCK, VirtualClock
from umbel.deployment import Authority, Identity, ServerSettings, create_token, join
from umbel.deployment.certificates import make_request
from umbel.deployment.loopthread import LoopThread
from umbel.deployment.server.server import Server
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import EnrolmentStub

DAY = 86_400.0
NOW = SYSTEM_CLOCK.now()


def init_server(folder: Path) -> None:
    """Make the keys of a server that is reached as localhost."""
    authority = Authority.create(folder / "authority", "test")
    authority.server_certificate(["localhost"], 365).save(folder / "identity")


@dataclass
class Here:
    """A server in this process."""

    server: Server
    data: Path

    @property
    def address(self) -> str:
        return f"localhost:{self.server.port}"

    def joined(self, folder: Path, role="node", name=None) -> Identity:
        token = create_token(
            Authority.load(self.data / "authority"), role, [self.address], 60, name
        )
        return join(token, folder, name or "somebody")


@contextmanager
def serving(data: Path, clock=SYSTEM_CLOCK, **changes):
    settings = ServerSettings(data, port=0, certificate_days=90).with_keys()
    authority = Authority.load(data / "authority", clock=clock)
    server = Server(replace(settings, authority=authority, **changes))
    with LoopThread() as loop:
        loop.call(server.start())
        try:
            yield Here(server, data)
        finally:
            loop.call(server.close())


def aged(data: Path, folder: Path, ago: float = 300, days: float = 365) -> Identity:
    """Give the identity in a folder a certificate from so many days ago."""
    authority = Authority.load(data / "authority", clock=VirtualClock(NOW - ago * DAY))
    own = Identity.load(folder)
    if folder.parent == data:
        certificate = authority.server_renewal(own, days)
    else:
        certificate = authority.sign_request(make_request(own.key_pem), own.principal, days)
    (folder / "cert.pem").write_bytes(certificate)
    return Identity.load(folder)


def days_left(identity: Identity) -> float:
    return (identity.valid_until - SYSTEM_CLOCK.now()) / DAY


@contextmanager
def enrolment(here, identity: Identity):
    peer = Peer(here, identity)
    yield EnrolmentStub(peer._channel).Renew
    peer.close()


def request(key: bytes) -> wire.RenewRequest:
    return wire.RenewRequest(certificate_request=make_request(key))
