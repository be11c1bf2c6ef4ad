"""The certificate authority: it signs the certificates of a server and of its clients."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.base import SYSTEM_CLOCK, Clock, ConfigError
from umbel.deployment.atomic import PRIVATE, PUBLIC, private_folder, write_atomically
from umbel.deployment.certificates import (
    Principal,
    belong_together,
    load_certificate,
    load_key,
    new_key,
    requested_key,
)
from umbel.deployment.extra import needs_cryptography
from umbel.deployment.identity import Identity

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.x509.oid import ObjectIdentifier

AUTHORITY_VALID_DAYS = 3650.0
"""How long an authority's own certificate is valid, and with it all that it signs."""

_BACKDATED = timedelta(minutes=5)
"""So that a certificate is good at once for a peer whose clock is slow."""
_KEY, _CERTIFICATE = "ca-key.pem", "ca.pem"


class Authority:
    """A certificate authority; ``create`` makes one, ``load`` reads it again.

    Attributes
    ----------
    ca_pem : bytes
        Its certificate, which every client pins.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from umbel.deployment.certificates import make_request, new_key, principal_of
    >>> with TemporaryDirectory() as folder:
    ...     authority = Authority.create(folder, "clinics")
    >>> request = make_request(new_key())
    >>> principal_of(authority.sign_request(request, Principal("node", "3"), valid_days=90))
    Principal(role='node', name='3')
    """

    def __init__(self, key_pem: bytes, ca_pem: bytes, clock: Clock = SYSTEM_CLOCK) -> None:
        self.ca_pem = ca_pem
        self._key = load_key(key_pem)
        self._certificate = load_certificate(ca_pem)
        self._clock = clock

    @classmethod
    def create(cls, folder: str | Path, name: str, *, clock: Clock = SYSTEM_CLOCK) -> Authority:
        """Make an authority and write its key and certificate into the folder.

        A creation that a crash interrupted is taken up again.

        Parameters
        ----------
        folder : str or pathlib.Path
            Is made, for its owner alone, if it is not there.
        name : str
            What its certificate calls it, 1 to 64 characters.

        Raises
        ------
        ConfigError
            If the folder holds an authority: it is never overwritten.
        """
        path = Path(folder)
        if (path / _CERTIFICATE).exists():
            raise ConfigError(
                "there is an authority here already",
                hint="use it, or take another folder: all that it signed becomes worthless with it",
                folder=path,
            )
        if not 1 <= len(name) <= 64:
            raise ConfigError(f"{name!r} cannot name an authority", hint="1 to 64 characters")
        key_file = private_folder(path) / _KEY
        try:
            if not key_file.exists():
                write_atomically(key_file, new_key(), mode=PRIVATE, replace=False)
            key_pem = key_file.read_bytes()
            ca_pem = _self_signed(load_key(key_pem), name, clock.now())
            write_atomically(path / _CERTIFICATE, ca_pem, mode=PUBLIC, replace=False)
        except FileExistsError:
            raise ConfigError("another process makes an authority here", folder=path) from None
        return cls(key_pem, ca_pem, clock)

    @classmethod
    def load(cls, folder: str | Path, *, clock: Clock = SYSTEM_CLOCK) -> Authority:
        """Read the authority in a folder.

        Raises
        ------
        ConfigError
            If there is none, or its files do not belong together.
        """
        path = Path(folder)
        try:
            key_pem, ca_pem = (path / _KEY).read_bytes(), (path / _CERTIFICATE).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"there is no authority here: {error.strerror or error}",
                hint="make one with: umbel server init",
                folder=path,
            ) from error
        if not belong_together(key_pem, ca_pem):
            raise ConfigError(
                f"{_KEY} and {_CERTIFICATE} do not belong together",
                hint="restore both from one backup",
                folder=path,
            )
        return cls(key_pem, ca_pem, clock)

    @needs_cryptography()
    def server_certificate(self, hosts: Sequence[str], valid_days: float) -> Identity:
        """Make a key and the certificate of a server that is reached under these names.

        Parameters
        ----------
        hosts : sequence of str
            Names and IP addresses, without port, as clients write them.
        valid_days : float
            It expires with the authority at the latest.

        Raises
        ------
        ConfigError
            If a host is neither a name nor an address, there is none, or the authority has expired.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        if not hosts:
            raise ConfigError("a server's certificate needs a host", hint="localhost, 10.0.0.7 ...")
        key_pem = new_key()
        cert_pem = self._issue(
            load_key(key_pem).public_key(),
            "server",
            x509.SubjectAlternativeName([_host(host) for host in hosts]),
            ExtendedKeyUsageOID.SERVER_AUTH,
            valid_days,
        )
        return Identity(key_pem, cert_pem, self.ca_pem)

    @needs_cryptography()
    def server_renewal(self, identity: Identity, valid_days: float) -> bytes:
        """Return a new certificate (PEM) for a server's key and the names that it had.

        Raises
        ------
        ConfigError
            If the authority has expired.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        old = load_certificate(identity.cert_pem)
        return self._issue(
            load_key(identity.key_pem).public_key(),
            "server",
            old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value,
            ExtendedKeyUsageOID.SERVER_AUTH,
            valid_days,
        )

    @needs_cryptography()
    def has_signed(self, cert_pem: bytes) -> bool:
        """Return whether a certificate is of this authority."""
        from cryptography.exceptions import InvalidSignature

        try:
            load_certificate(cert_pem).verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    @needs_cryptography()
    def sign_request(self, csr_pem: bytes, principal: Principal, valid_days: float) -> bytes:
        """Return a client's certificate (PEM) for the key in its request.

        Nothing but the public key is taken from the request: the name is the caller's to give.

        Parameters
        ----------
        csr_pem : bytes
            PKCS #10, PEM.
        principal : Principal
            For whom the certificate shall speak.
        valid_days : float
            It expires with the authority at the latest.

        Raises
        ------
        ProtocolError
            If it is no request, or not for an ECDSA P-256 key.
        BadSignature
            If the request was not signed by the key that it holds.
        ConfigError
            If the authority has expired.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        return self._issue(
            requested_key(csr_pem),
            principal.role,
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(principal.uri)]),
            ExtendedKeyUsageOID.CLIENT_AUTH,
            valid_days,
        )

    def _issue(
        self,
        key: EllipticCurvePublicKey,
        common_name: str,
        names: x509.SubjectAlternativeName,
        usage: ObjectIdentifier,
        valid_days: float,
    ) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        now = datetime.fromtimestamp(self._clock.now(), UTC)
        end = self._certificate.not_valid_after_utc
        if now >= end:
            raise ConfigError(
                f"the authority expired on {end:%Y-%m-%d}", hint="see docs/deploying.md"
            )
        if not valid_days > 0:
            raise ConfigError(f"a certificate cannot be valid for {valid_days} days")
        end = min(end, now + timedelta(min(valid_days, AUTHORITY_VALID_DAYS)))
        builder = (
            _builder(key, common_name, now - _BACKDATED, end)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(names, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@needs_cryptography()
def _self_signed(key: EllipticCurvePrivateKey, name: str, now_s: float) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    now = datetime.fromtimestamp(now_s, UTC)
    end = now + timedelta(AUTHORITY_VALID_DAYS)
    builder = (
        _builder(key.public_key(), name, now - _BACKDATED, end)
        .issuer_name(_named(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    key: EllipticCurvePublicKey, common_name: str, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(_named(common_name))
        .public_key(key)
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _named(common_name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    labels = host.removeprefix("*.").rstrip(".").split(".")
    if not all(label.replace("-", "").replace("_", "").isalnum() for label in labels) or (
        not host.isascii()
    ):
        raise ConfigError(
            f"{host!r} is neither a host's name nor an IP address",
            hint="write it without port: fl.example.org, 10.0.0.7, ::1",
        )
    return x509.DNSName(host)
