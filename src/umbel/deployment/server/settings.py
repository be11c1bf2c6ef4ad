"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from umbel.base import SYSTEM_CLOCK, ConfigError
from umbel.coordinator import Limits
from umbel.deployment.addresses import split_address
from umbel.deployment.authority import Authority
from umbel.deployment.certificates import Principal
from umbel.deployment.channel import Credentials
from umbel.deployment.identity import Identity


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
    client_certificates : bool
        Whether who calls must show a certificate. Without, TLS proves the server alone, and callers
        are as without TLS.
    authority : Authority or None
        Signs new nodes and users; without it nobody can join.
    identity_dir : Path or None
        The folder from which ``credentials`` are, if the certificate is to be renewed in it.
    certificate_days : float
        How long certificates are valid that the authority signs.
    revoked : tuple of str
        Users and admins whose certificates are refused, ``"user/alice"``.
    objects_max_bytes : int or None
        How much the object store may hold.
    node_grace_s : float
        How long work waits for a node that is away, before it fails.
    keep_runs_s : float or None
        How long a run is kept after its end; ``None`` keeps runs until somebody removes them.
    fsync : bool
        Whether what is acknowledged is on the disk by then, and so survives a power cut.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 9200
    addresses: tuple[str, ...] = ()
    http_port: int | None = None
    insecure: bool = False
    credentials: Credentials | None = None
    client_certificates: bool = True
    authority: Authority | None = None
    identity_dir: Path | None = None
    certificate_days: float = 365.0
    revoked: tuple[str, ...] = ()
    objects_max_bytes: int | None = None
    node_grace_s: float = 300.0
    keep_runs_s: float | None = None
    fsync: bool = False

    def __post_init__(self) -> None:
        # The processes of server apps may change their working folder.
        object.__setattr__(self, "data_dir", self.data_dir.absolute())
        for principal in self.revoked:
            Principal.parse(principal)  # a slip of the pen would let somebody in
        for address in self.addresses:
            split_address(address)  # or tokens would be made that lead nowhere

    @property
    def limits(self) -> Limits:
        """The coordinator's part of the settings."""
        return Limits(node_grace_s=self.node_grace_s, keep_runs_s=self.keep_runs_s)

    def with_keys(self) -> ServerSettings:
        """Return the settings with the keys that ``umbel server init`` made in the data folder.

        The server's certificate is renewed if it is time, or if that has passed.

        Raises
        ------
        ConfigError
            There are none.
        """
        if self.insecure:
            return self
        if not (self.data_dir / "authority").exists():
            raise ConfigError(
                "the data folder holds no keys",
                hint="make them with `umbel server init`, or try it out with --insecure",
                folder=self.data_dir,
            )
        authority = Authority.load(self.data_dir / "authority")
        folder, now = self.data_dir / "identity", SYSTEM_CLOCK.now()
        own = renewed_in_time(folder, authority, self.certificate_days, now)
        own.check_valid(now)
        credentials = Credentials(authority.ca_pem, own.key_pem, own.cert_pem)
        return replace(self, credentials=credentials, authority=authority, identity_dir=folder)


def renewed_in_time(folder: Path, authority: Authority, valid_days: float, now: float) -> Identity:
    """Return a server's identity, with a new certificate if a third of the old one's time is left.

    One that the authority has not signed is its owner's to renew.

    Parameters
    ----------
    folder : Path
        Of the identity; the new certificate is written into it.
    authority : Authority
        The server's.
    valid_days : float
        How long the new certificate is valid.
    now : float
        Seconds since the Unix epoch.

    Raises
    ------
    ConfigError
        There is no identity, or the authority has expired.
    """
    own = Identity.load(folder)
    if now < own.renew_at or not authority.has_signed(own.cert_pem):
        return own
    return own.renew(folder, authority.server_renewal(own, valid_days))
