"""Who vouches for a bundle: detached Ed25519 signatures."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.base import BadSignature, ConfigError
from umbel.deployment.atomic import PRIVATE, write_atomically
from umbel.deployment.bundle.packing import bundle_hash
from umbel.deployment.extra import needs_cryptography

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KIND = "ed25519:"
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


@needs_cryptography()
def new_signing_key() -> bytes:
    """Return a new private key, Ed25519, as PEM (PKCS #8, not encrypted)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def create_signing_key(file: Path) -> str:
    """Write a new private key that only its owner can read; return its public half.

    Raises
    ------
    ConfigError
        If there is a file of this name, or none can be written there.
    """
    key = new_signing_key()
    try:
        write_atomically(file, key, mode=PRIVATE, replace=False)
    except OSError as error:
        raise ConfigError(
            f"the key cannot be written: {error.strerror}",
            hint="name a new file in a folder that is there",
            file=file,
        ) from error
    return public_key(key)


def read_signing_key(file: Path) -> bytes:
    """Return the private key in a file.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the key cannot be read: {error.strerror}",
            hint=f"make one with: umbel key create {file}",
            file=file,
        ) from error


def public_key(key_pem: bytes) -> str:
    """Return the public half of a signing key as one word: ``ed25519:`` and 44 characters.

    Raises
    ------
    ConfigError
        If it is no such key.
    """
    return _KIND + base64.b64encode(_load(key_pem).public_key().public_bytes_raw()).decode()


def sign(bundle: bytes, key_pem: bytes) -> str:
    """Return the signature of a bundle: JSON with ``key`` and ``signature``, for a file or a wire.

    Parameters
    ----------
    bundle : bytes
    key_pem : bytes
        From ``new_signing_key``.

    Raises
    ------
    ConfigError
        If the key is none to sign with.

    Examples
    --------
    >>> key = new_signing_key()
    >>> verify(b"an app", sign(b"an app", key), [public_key(key)])
    """
    signature = base64.b64encode(_load(key_pem).sign(_signed_text(bundle))).decode()
    return json.dumps({"key": public_key(key_pem), "signature": signature}) + "\n"


@needs_cryptography()
def verify(bundle: bytes, signature: str, trusted: Sequence[str]) -> None:
    """Return if a trusted key has signed the bundle.

    Parameters
    ----------
    bundle : bytes
    signature : str
        What ``sign`` returned; empty for a bundle that nobody signed.
    trusted : sequence of str
        Public keys, each as ``public_key`` writes it.

    Raises
    ------
    BadSignature
        If there is no signature, it does not fit the bundle, or its key is not trusted: the text
        names the key.
    ConfigError
        If one of the keys to trust is no key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    believed = [_trusted_key(text) for text in trusted]
    if not signature.strip():
        raise BadSignature(
            "the bundle is not signed",
            hint="sign it with a key that this node trusts",
            trusted=", ".join(trusted) or "none",
        )
    name = claimed_signer(signature)
    key, raw_signature = _parsed(signature)
    if key not in believed:
        raise BadSignature(
            f"the bundle is signed by {name}, which is not trusted here",
            hint=f"if its owner may run code on this machine: --trust {name}",
            trusted=", ".join(trusted) or "none",
        )
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(raw_signature, _signed_text(bundle))
    except (InvalidSignature, ValueError):
        raise BadSignature(
            f"the bundle is not what {name} has signed",
            hint="it was changed on its way, or the signature is that of another version",
        ) from None


def claimed_signer(signature: str) -> str:
    """Return the public key that a signature names; ``verify`` tells whether that is true.

    Raises
    ------
    BadSignature
        If it cannot be read.
    """
    key, _ = _parsed(signature)
    return _KIND + base64.b64encode(key).decode()


def _signed_text(bundle: bytes) -> bytes:
    # Told apart from anything else that this key may sign.
    return b"umbel bundle 1\n" + bundle_hash(bundle).encode()


@needs_cryptography()
def _load(key_pem: bytes) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"this is not a private key: {error}", hint="a key is PEM without a password"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            "bundles are signed with Ed25519, and this key is of another kind",
            hint="make one with: openssl genpkey -algorithm ed25519",
        )
    return key


def check_public_key(text: str) -> None:
    """Refuse what is no public key as ``public_key`` writes it.

    Raises
    ------
    ConfigError
        If it is none.
    """
    _trusted_key(text)


def _trusted_key(text: str) -> bytes:
    try:
        return _raw_key(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no public key: {error}", hint=f"it is one word that begins with {_KIND}"
        ) from error


def _raw_key(text: str) -> bytes:
    if not text.startswith(_KIND):
        raise ValueError(f"it does not begin with {_KIND}")
    return _decoded(text.removeprefix(_KIND), _KEY_BYTES)


def _decoded(text: str, size_bytes: int) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if len(raw) != size_bytes:
        raise binascii.Error(f"{len(raw)} bytes, not {size_bytes}")
    return raw


def _parsed(signature: str) -> tuple[bytes, bytes]:
    try:
        fields = json.loads(signature)
        return _raw_key(fields["key"]), _decoded(fields["signature"], _SIGNATURE_BYTES)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadSignature(
            "the bundle's signature cannot be read",
            hint='it is JSON: {"key": "ed25519:...", "signature": "..."}',
        ) from error
