"""An identity on disk: the key and certificate of a node, a user or a server.

``cert.pem`` is written last and removed first, so that a folder that holds it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from umbel.base import ConfigError, NotAuthenticated, sync
from umbel.deployment.atomic import (
    PRIVATE,
    PUBLIC,
    private_folder,
    write_atomically,
)
from umbel.deployment.certificates import (
    Principal,
    belong_together,
    new_key,
    principal_of,
    valid_until,
)

_KEY, _CERTIFICATE, _AUTHORITY, _ADDRESS = "key.pem", "cert.pem", "ca.pem", "address"
_JOINING = "joining-key.pem"
_REJOIN = "make a token at the server with `umbel token create`, and join with it"


@dataclass(frozen=True, slots=True)
class Identity:
    """A key, the certificate for it, and whom it believes.

    Attributes
    ----------
    key_pem, cert_pem : bytes
        One's own.
    ca_pem : bytes
        The certificate of the authority that has signed both sides' certificates.
    address : str
        The server's, as ``"host:port"``; empty for a server's own identity.
    """

    key_pem: bytes
    cert_pem: bytes
    ca_pem: bytes
    address: str = ""

    def __repr__(self) -> str:
        return f"Identity(address={self.address!r})"  # a key belongs into no log

    @property
    def principal(self) -> Principal:
        """Whom the certificate speaks for."""
        return principal_of(self.cert_pem)

    @property
    def valid_until(self) -> float:
        """When the certificate expires, in seconds since the Unix epoch."""
        return valid_until(self.cert_pem)

    def check_valid(self, now: float) -> None:
        """Refuse a certificate that has expired, before the TLS handshake does so in riddles.

        Parameters
        ----------
        now : float
            Seconds since the Unix epoch.

        Raises
        ------
        NotAuthenticated
            If it has expired.
        """
        if now > self.valid_until:
            day = datetime.fromtimestamp(self.valid_until, UTC).strftime("%Y-%m-%d %H:%M UTC")
            raise NotAuthenticated(
                f"the certificate expired on {day}", hint=_REJOIN, address=self.address or None
            )

    def save(self, folder: str | Path) -> None:
        """Write the identity into a folder of its own, in place of the one that was there.

        A crash leaves a complete identity, or a folder in which ``load`` says what to do.
        """
        path = private_folder(Path(folder))
        (path / _CERTIFICATE).unlink(missing_ok=True)
        sync(path)
        write_atomically(path / _KEY, self.key_pem, mode=PRIVATE)
        write_atomically(path / _AUTHORITY, self.ca_pem, mode=PUBLIC)
        write_atomically(path / _ADDRESS, f"{self.address}\n".encode(), mode=PUBLIC)
        write_atomically(path / _CERTIFICATE, self.cert_pem, mode=PUBLIC)
        (path / _JOINING).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path) -> Identity:
        """Read the identity in a folder.

        Raises
        ------
        ConfigError
            If there is none, if joining was interrupted, or if key and certificate do not belong
            together.
        NotAuthenticated
            If ``cert.pem`` is no certificate.
        """
        path = Path(folder)
        if not (path / _CERTIFICATE).exists():
            begun = (path / _KEY).exists() or (path / _JOINING).exists()
            what = "joining was not finished here" if begun else "there is no identity here"
            raise ConfigError(what, hint=_REJOIN, folder=path)
        try:
            identity = cls(
                key_pem=(path / _KEY).read_bytes(),
                cert_pem=(path / _CERTIFICATE).read_bytes(),
                ca_pem=(path / _AUTHORITY).read_bytes(),
                address=(path / _ADDRESS).read_text(encoding="utf-8").strip(),
            )
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the identity cannot be read: {error}", hint=_REJOIN, folder=path
            ) from error
        if not belong_together(identity.key_pem, identity.cert_pem):
            raise ConfigError(
                "key.pem and cert.pem do not belong together", hint=_REJOIN, folder=path
            )
        return identity


def joining_key(folder: str | Path) -> bytes:
    """Return the key to join with, as PEM: of an unfinished attempt in the folder, or new.

    It is on disk before it is used: when the server's answer is lost, the next attempt asks with
    the same key, by which the server can tell it from a stranger with the same token. The
    identity that the folder may hold stays as it is until ``Identity.save``.

    Raises
    ------
    ConfigError
        If the key of the unfinished attempt cannot be read.
    """
    file = private_folder(Path(folder)) / _JOINING
    if not file.exists():
        write_atomically(file, new_key(), mode=PRIVATE)
    return file.read_bytes()
