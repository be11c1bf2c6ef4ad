"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from umbel.coordinator import Limits
from umbel.deployment.authority import Authority
from umbel.deployment.channel import Credentials


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a server runs.

    Attributes
    ----------
    data_dir : Path
        Holds everything that outlives the process: journal, objects, runs, certificates.
    host : str
        The address to listen on.
    port : int
        The port of nodes and users; 0 takes a free one.
    addresses : tuple of str
        Under which nodes and users reach it, ``"host:port"``; they stand in join tokens.
    http_port : int or None
        The port of ``/healthz``, ``/readyz`` and ``/metrics``; ``None`` opens none.
    insecure : bool
        Without TLS: everybody who reaches the port may do everything.
    credentials : Credentials or None
        The server's key and certificate, and the authority that signs those who call.
    authority : Authority or None
        Signs new nodes and users; without it nobody can join.
    objects_max_bytes : int or None
        How much the object store may hold.
    limits : Limits
        How long is waited, and how much is held.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 9200
    addresses: tuple[str, ...] = ()
    http_port: int | None = None
    insecure: bool = False
    credentials: Credentials | None = None
    authority: Authority | None = None
    objects_max_bytes: int | None = None
    limits: Limits = field(default_factory=Limits)
