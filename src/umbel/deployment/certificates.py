"""Who is who: keys, certificate requests, and the principal that a certificate names.

Keys are ECDSA P-256: gRPC's TLS takes no Ed25519 certificates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, get_args

from umbel.base import BadSignature, ConfigError, NotAuthenticated, ProtocolError, content_hash
from umbel.deployment.extra import needs_cryptography

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

Role = Literal["node", "user", "admin", "join"]

_SCHEME = "umbel:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a certificate speaks for.

    Attributes
    ----------
    role : str
        ``"node"``, ``"user"`` or ``"admin"``; ``"join"`` may ask for a certificate and for nothing
        else.
    name : str
        A node's number, a user's name, or a token's id: 1 to 128 letters, digits and ``._@+-``,
        the first a letter or digit.

    Raises
    ------
    ConfigError
        If role or name are not of this form.

    Examples
    --------
    >>> str(Principal("node", "3"))
    'node/3'
    >>> Principal.parse("user/alice").name
    'alice'
    """

    role: Role
    name: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ConfigError(
                f"there is no role {self.role!r}", hint=f"choose {', '.join(get_args(Role))}"
            )
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} cannot name a {self.role}",
                hint="a name is 1 to 128 letters, digits and ._@+-, and begins with one of the "
                "first two",
            )

    def __str__(self) -> str:
        return f"{self.role}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Principal:
        """Read what ``str`` writes: ``"node/3"``.

        Raises
        ------
        ConfigError
            If it is not of that form.
        """
        role, _, name = text.partition("/")
        return cls(role, name)  # type: ignore[arg-type] # checked when it is made

    @property
    def uri(self) -> str:
        """How a certificate holds it, among the subject's alternative names."""
        return f"{_SCHEME}{self}"


@needs_cryptography()
def new_key() -> bytes:
    """Return a new private key, ECDSA P-256, as PEM (PKCS #8, not encrypted)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@needs_cryptography()
def load_key(key_pem: bytes) -> EllipticCurvePrivateKey:
    """Return the private key that PEM holds.

    Raises
    ------
    ConfigError
        If it holds no ECDSA P-256 key that is readable without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"this is not a private key: {error}", hint="a key is PEM without a password"
        ) from error
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and _is_p256(key.public_key())):
        raise ConfigError(
            "the key is not of the kind ECDSA P-256",
            hint="make one with: openssl ecparam -name prime256v1 -genkey -noout",
        )
    return key


@needs_cryptography()
def make_request(key_pem: bytes) -> bytes:
    """Return a certificate request (PKCS #10, PEM) that proves to hold the key.

    It names nobody: whoever signs it says who its holder is.

    Raises
    ------
    ConfigError
        If the key cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    request = x509.CertificateSigningRequestBuilder(x509.Name([]))
    signed = request.sign(load_key(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


@needs_cryptography()
def requested_key(csr_pem: bytes) -> EllipticCurvePublicKey:
    """Return the public key of a certificate request: all of it that is taken on trust.

    Raises
    ------
    ProtocolError
        If it is no request, or its key is not ECDSA P-256.
    BadSignature
        If the request was not signed by the key that it holds.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProtocolError(f"this is not a certificate request: {error}") from error
    if not is_signed:
        raise BadSignature("the certificate request is not signed by the key that it holds")
    if not _is_p256(key):
        raise ProtocolError(
            "the certificate request is for another kind of key", hint="make an ECDSA P-256 key"
        )
    return key  # type: ignore[return-value] # `_is_p256` has looked


@needs_cryptography()
def load_certificate(cert_pem: bytes) -> x509.Certificate:
    """Return the first certificate that PEM holds.

    Raises
    ------
    NotAuthenticated
        If it holds none.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(cert_pem)
    except ValueError as error:
        raise NotAuthenticated(f"this is not a certificate: {error}") from error


@needs_cryptography()
def principal_of(cert_pem: bytes) -> Principal:
    """Return whom a certificate speaks for, by its one ``umbel:`` URI.

    It is the TLS handshake that proves the certificate: this only reads it.

    Parameters
    ----------
    cert_pem : bytes
        The peer's certificate, as PEM.

    Raises
    ------
    NotAuthenticated
        If it is no certificate, or names no principal, or more than one.
    """
    from cryptography import x509

    certificate = load_certificate(cert_pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris: Sequence[str] = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except ValueError as error:
        raise NotAuthenticated(f"the certificate cannot be read: {error}") from error
    ours = [uri.removeprefix(_SCHEME) for uri in uris if uri.startswith(_SCHEME)]
    if len(ours) != 1:
        raise NotAuthenticated(
            f"the certificate names {len(ours)} principals, not one",
            hint="a client's certificate holds one URI such as umbel:node/3; "
            "join with a token to be given one",
        )
    try:
        return Principal.parse(ours[0])
    except ConfigError as error:
        raise NotAuthenticated(f"the certificate names nobody: {error.message}") from error


@needs_cryptography()
def key_fingerprint(csr_pem: bytes) -> str:
    """Return the SHA-256 of a request's public key (DER), as 64 hexadecimal digits.

    Raises
    ------
    ProtocolError
        If it is no request, or not for an ECDSA P-256 key.
    BadSignature
        If the request was not signed by the key that it holds.
    """
    return _fingerprint_of(requested_key(csr_pem))


def certified_key(cert_pem: bytes) -> str:
    """Return the SHA-256 of a certificate's public key, as `key_fingerprint` does of a request's.

    Raises
    ------
    NotAuthenticated
        If it is no certificate.
    """
    return _fingerprint_of(load_certificate(cert_pem).public_key())


def _fingerprint_of(key: CertificatePublicKeyTypes) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return content_hash([key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)])


def valid_until(cert_pem: bytes) -> float:
    """Return when a certificate expires, in seconds since the Unix epoch.

    Raises
    ------
    NotAuthenticated
        If it is no certificate.
    """
    return load_certificate(cert_pem).not_valid_after_utc.timestamp()


def day_text(at: float) -> str:
    """Return a moment, in seconds since the Unix epoch, as people read it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def belong_together(key_pem: bytes, cert_pem: bytes) -> bool:
    """Return whether the certificate is for this private key.

    Raises
    ------
    ConfigError
        If the key cannot be read.
    NotAuthenticated
        If it is no certificate.
    """
    return load_key(key_pem).public_key() == load_certificate(cert_pem).public_key()


@needs_cryptography()
def same_holder(cert_pem: bytes, other_pem: bytes) -> bool:
    """Return whether two certificates are for the same key and the same names.

    Raises
    ------
    NotAuthenticated
        If one is no certificate.
    """
    from cryptography import x509

    one, other = load_certificate(cert_pem), load_certificate(other_pem)
    names = [
        [each.value for each in extensions if isinstance(each.value, x509.SubjectAlternativeName)]
        for extensions in (one.extensions, other.extensions)
    ]
    return one.public_key() == other.public_key() and names[0] == names[1]


def _is_p256(key: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec

    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
