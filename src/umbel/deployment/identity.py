"""An identity on disk: the key and certificate of a node, a user or a server.

``cert.pem`` is written last and removed first, so that a folder that holds it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from umbel.base import ConfigError, NotAuthenticated, ProtocolError, UmbelError, sync
from umbel.deployment.atomic import (
    PRIVATE,
    PUBLIC,
    private_folder,
    write_atomically,
)
from umbel.deployment.certificates import (
    Principal,
    belong_together,
    day_text,
    load_certificate,
    new_key,
    principal_of,
    same_holder,
    valid_until,
)
from umbel.deployment.channel import Credentials

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
    def credentials(self) -> Credentials:
        """What to show on a connection."""
        return Credentials(self.ca_pem, self.key_pem, self.cert_pem)

    @property
    def principal(self) -> Principal:
        """Whom the certificate speaks for."""
        return principal_of(self.cert_pem)

    @property
    def valid_until(self) -> float:
        """When the certificate expires, in seconds since the Unix epoch."""
        return valid_until(self.cert_pem)

    @property
    def renew_at(self) -> float:
        """When the certificate is to be renewed: when a third of its lifetime is left."""
        begin = load_certificate(self.cert_pem).not_valid_before_utc.timestamp()
        return self.valid_until - (self.valid_until - begin) / 3

    def end_text(self, now: float) -> str:
        """Return when the certificate ends, and in how many days from ``now``."""
        days = (self.valid_until - now) / 86_400
        return f"the certificate ends on {day_text(self.valid_until)}, in {days:.1f} days"

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
            raise NotAuthenticated(
                f"the certificate expired on {day_text(self.valid_until)}",
                hint=_REJOIN,
                address=self.address or None,
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

    def renew(self, folder: str | Path, cert_pem: bytes) -> Identity:
        """Put a newer certificate into the folder; return what is there then.

        One file is replaced, so that a crash leaves the old certificate or the new one. A folder
        that holds another certificate by now, of a process that was faster or of a new joining,
        stays as it is, and what it holds is returned.

        Raises
        ------
        ProtocolError
            The certificate is for another key or other names.
        """
        if not same_holder(self.cert_pem, cert_pem):
            raise ProtocolError("the new certificate is for another key or other names")
        file = Path(folder) / _CERTIFICATE
        if not file.exists() or file.read_bytes() != self.cert_pem:
            return Identity.load(folder)
        write_atomically(file, cert_pem, mode=PUBLIC)
        return replace(self, cert_pem=cert_pem)

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


def joining_key(folder: str | Path, ca_pem: bytes, now: float) -> bytes:
    """Return the key to join with, as PEM: of an unfinished attempt in the folder, or new.

    It is on disk before it is used: when the server's answer is lost, the next attempt asks with
    the same key, by which the server can tell it from a stranger with the same token. The
    identity that the folder may hold stays as it is until ``Identity.save``. If that is good no
    more, its key is taken again: by its key a server knows a node, and leaves it its number.

    Parameters
    ----------
    folder : str or pathlib.Path
        Of the identity. Is made if it is not there.
    ca_pem : bytes
        The certificate of the authority that is to sign.
    now : float
        Seconds since the Unix epoch.

    Raises
    ------
    ConfigError
        If the key of the unfinished attempt cannot be read.
    """
    file = private_folder(Path(folder)) / _JOINING
    if not file.exists():
        write_atomically(file, _old_key(folder, ca_pem, now) or new_key(), mode=PRIVATE)
    return file.read_bytes()


def _old_key(folder: str | Path, ca_pem: bytes, now: float) -> bytes | None:
    """Return the key of an identity that has expired, or is of another authority.

    Who joins again beside one that is good, wants another: the old one may be revoked.
    """
    try:
        identity = Identity.load(folder)
    except UmbelError:
        return None
    is_good = now <= identity.valid_until and identity.ca_pem == ca_pem
    return None if is_good else identity.key_pem
