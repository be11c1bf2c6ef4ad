"""Keys and what is done with them: agree on a secret (X25519), seal (AES-GCM), sign (Ed25519)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from umbel.base import MissingDependency, SecAggAborted, derive_key, fresh_key
from umbel.secagg.shamir import SHARE_BYTES
from umbel.secagg.transcript import digest

KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEALED_BYTES = 2 * SHARE_BYTES + 16
"""Bytes of one client's shares of both its secrets, sealed for a neighbour."""

_NONCE = bytes(12)  # a key seals one text only: it is derived for one sender and one receiver


@contextmanager
def _needs_cryptography() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "secure aggregation needs cryptography", hint='pip install "umbel[secagg]"'
        ) from error


@_needs_cryptography()
def public_of(private: bytes) -> bytes:
    """Return the X25519 public key of a private one; both are 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


@_needs_cryptography()
def agreed(private: bytes, public: bytes, node: int) -> bytes:
    """Return the secret of 32 bytes that two X25519 keys agree on (RFC 7748).

    Raises
    ------
    SecAggAborted
        The public key is one of the few that make every secret zero.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as error:
        raise SecAggAborted("a public key gives no secret", node=node) from error


def check_key(public: bytes, node: int) -> None:
    """Refuse an X25519 public key that makes every secret zero, whoever else's key it is.

    Raises
    ------
    SecAggAborted
        It is one.
    """
    agreed(bytes(KEY_BYTES), public, node)


@dataclass(frozen=True)
class Channel:
    """One direction between two clients of one session: a key of its own, used once.

    Parameters
    ----------
    secret : bytes
        What the two have agreed on.
    session, roster : bytes
        The session's id and the hash of its roster.
    sender, receiver : int
        Node ids.
    """

    secret: bytes = field(repr=False)
    session: bytes
    roster: bytes
    sender: int
    receiver: int

    def _context(self) -> bytes:
        return digest("shares", self.session, self.roster, self.sender, self.receiver)

    @_needs_cryptography()
    def seal(self, text: bytes) -> bytes:
        """Return the text encrypted and authenticated."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        context = self._context()
        return AESGCM(derive_key(self.secret, "seal", context)).encrypt(_NONCE, text, context)

    @_needs_cryptography()
    def open(self, sealed: bytes) -> bytes:
        """Return the text that was sealed.

        Raises
        ------
        SecAggAborted
            It was not sealed by this sender for this receiver in this session and roster.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        context = self._context()
        try:
            return AESGCM(derive_key(self.secret, "seal", context)).decrypt(_NONCE, sealed, context)
        except InvalidTag as error:
            raise SecAggAborted(
                "shares do not open: they are forged, come from another sender, session or "
                "roster, or the server shows clients different rosters",
                node=self.sender,
            ) from error


@dataclass(frozen=True)
class Identity:
    """An Ed25519 key pair by which a node is known to the others from session to session.

    Parameters
    ----------
    private : bytes
        32 bytes; ``Identity.generate()`` draws them.

    Examples
    --------
    >>> identity = Identity.generate()
    >>> verified(identity.public, identity.sign(b"text"), b"text")
    True
    """

    private: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Identity:
        """Return a new identity."""
        return cls(fresh_key())

    @classmethod
    @_needs_cryptography()
    def from_pem(cls, pem: bytes) -> Identity:
        """Return the identity in the text of a PEM file (PKCS #8, without a password).

        Raises
        ------
        SecAggAborted
            It holds no Ed25519 private key.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise SecAggAborted("an identity must be a PEM private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SecAggAborted("an identity must be an Ed25519 key")
        return cls(key.private_bytes_raw())

    @property
    @_needs_cryptography()
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()

    @_needs_cryptography()
    def sign(self, text: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.private).sign(text)


@_needs_cryptography()
def verified(public: bytes, signature: bytes, text: bytes) -> bool:
    """Return whether the signature was made of this text by the key's owner."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


@_needs_cryptography()
def trusted_keys(pem: bytes) -> frozenset[bytes]:
    """Return the Ed25519 public keys in the text of a PEM file with one or more of them.

    Raises
    ------
    SecAggAborted
        There is none, or one is of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    end = b"-----END PUBLIC KEY-----"
    found = set()
    for block in pem.split(end)[:-1]:
        start = block.find(b"-----BEGIN PUBLIC KEY-----")
        try:
            key = load_pem_public_key(block[max(start, 0) :] + end + b"\n")
        except ValueError as error:
            raise SecAggAborted("trusted keys must be PEM public keys") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SecAggAborted("trusted keys must be Ed25519 keys")
        found.add(key.public_bytes_raw())
    if not found:
        raise SecAggAborted("no trusted public key was found")
    return frozenset(found)
