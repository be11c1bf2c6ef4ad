"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from umbel.coordinator import Limits


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
    http_port : int or None
        The port of ``/healthz``, ``/readyz`` and ``/metrics``; ``None`` opens none.
    insecure : bool
        Without TLS: everybody who reaches the port may do everything.
    objects_max_bytes : int or None
        How much the object store may hold.
    limits : Limits
        How long is waited, and how much is held.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 9200
    http_port: int | None = None
    insecure: bool = False
    objects_max_bytes: int | None = None
    limits: Limits = field(default_factory=Limits)
