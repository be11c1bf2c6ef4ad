"""Chance that nobody can foretell: streams of bits from a secret key, and keys from keys."""

from __future__ import annotations

import hmac
import secrets
import sys
from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.base.errors import ConfigError, MissingDependency

NDArray: TypeAlias = npt.NDArray[Any]

KEY_BYTES = 32
_SECRET_MIN_BYTES = 16
_ZEROS = bytes(1 << 16)
"""What is encrypted; short enough to stay in the cache."""


class KeyStream:
    """The stream of random bits that a key stands for: AES-256 in counter mode.

    Who does not know the key cannot tell the stream from coin tosses; who does gets the same bits
    on every machine. A key belongs to one purpose: two streams of one key are the same stream.
    Derive a key for each purpose with ``derive_key``.

    Parameters
    ----------
    key : bytes
        32 bytes, as ``fresh_key`` and ``derive_key`` give them.
    block : int, optional
        Where to begin, in blocks of 16 bytes, so that threads can share a long stream.

    Raises
    ------
    ConfigError
        The key is of another length.
    MissingDependency
        The library ``cryptography`` is not installed.

    Examples
    --------
    >>> stream = KeyStream(derive_key(bytes(32), "noise", 3))
    >>> stream.words(2).dtype, stream.uniform(3).shape
    (dtype('uint32'), (3,))
    """

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes, *, block: int = 0) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigError(
                f"a key has {KEY_BYTES} bytes, got {len(key)}",
                hint="make it with fresh_key() or derive_key(secret, ...)",
            )
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher
            from cryptography.hazmat.primitives.ciphers.algorithms import AES
            from cryptography.hazmat.primitives.ciphers.modes import CTR
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "noise and masks from a key need cryptography", hint='pip install "umbel[dp]"'
            ) from error
        self._encryptor = Cipher(AES(key), CTR(block.to_bytes(16, "big"))).encryptor()

    def fill(self, out: NDArray) -> None:
        """Overwrite the array with the next ``out.nbytes`` bytes of the stream.

        Parameters
        ----------
        out : ndarray
            Whole numbers of any width, C-contiguous and writeable.

        Raises
        ------
        ConfigError
            The array is not such a one.
        """
        if out.dtype.kind not in "iu" or not (out.flags.c_contiguous and out.flags.writeable):
            raise ConfigError(
                f"a key stream fills contiguous arrays of whole numbers, not this {out.dtype}",
                hint="give np.empty(shape, np.uint32), for example",
            )
        target = out.reshape(-1).view(np.uint8).data
        update_into = self._encryptor.update_into
        whole = len(target) - len(target) % len(_ZEROS)
        for start in range(0, whole, len(_ZEROS)):
            update_into(_ZEROS, target[start : start + len(_ZEROS)])
        if whole < len(target):
            update_into(_ZEROS[: len(target) - whole], target[whole:])

    def words(self, count: int, dtype: npt.DTypeLike = np.uint32) -> NDArray:
        """Return the next ``count`` words, each uniform over all values of ``dtype``.

        The same on every machine: the bytes of the stream are read with the lowest first.

        Examples
        --------
        >>> KeyStream(bytes(32)).words(2, np.uint8).tolist()
        [220, 149]
        """
        out = np.empty(count, np.dtype(dtype).newbyteorder("="))
        self.fill(out)
        return out if sys.byteorder == "little" else out.byteswap(inplace=True)

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """Return ``count`` numbers strictly between 0 and 1, of 8 bytes of the stream each.

        They are the middles of ``2**52`` equal parts of the interval: ``(2k + 1) / 2**53``. So 0
        and 1 never come, and ``u`` is as likely as ``1 - u``.

        Examples
        --------
        >>> drawn = KeyStream(bytes(32)).uniform(1000)
        >>> bool(0 < drawn.min() < drawn.max() < 1)
        True
        """
        bits = self.words(count, np.uint64)
        bits >>= np.uint64(12)
        bits |= np.float64(1).view(np.uint64)
        numbers = bits.view(np.float64)  # in [1, 2), so that nothing below is rounded
        numbers -= 1 - 2.0**-53
        return numbers


def derive_key(secret: bytes, *names: str | int | bytes) -> bytes:
    """Return the key of 32 bytes that has these names under a secret: HKDF with SHA-256, RFC 5869.

    From such a key follows neither the secret nor a key of other names. Type and length are part
    of a name: ``"1"``, ``1`` and ``b"1"`` are three names, and ``"a", "b"`` is not ``"ab"``.

    Parameters
    ----------
    secret : bytes
        At least 16 bytes that others cannot guess.
    *names : str, int or bytes
        What the key is for.

    Raises
    ------
    ConfigError
        The secret is too short to be one.

    Examples
    --------
    >>> derive_key(bytes(32), "noise", 1) == derive_key(bytes(32), "noise", "1")
    False
    """
    if len(secret) < _SECRET_MIN_BYTES:
        raise ConfigError(
            f"a secret has at least {_SECRET_MIN_BYTES} bytes, got {len(secret)}",
            hint="make it with fresh_key()",
        )
    info = b"".join(spelled(name) for name in names)
    extracted = hmac.digest(b"umbel-key", secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def fresh_key() -> bytes:
    """Return 32 bytes from the operating system's cryptographic source of chance.

    Examples
    --------
    >>> len(fresh_key()), fresh_key() == fresh_key()
    (32, False)
    """
    return secrets.token_bytes(KEY_BYTES)


def spelled(name: str | int | bytes) -> bytes:
    """Return a name as bytes that tell its kind and where it ends.

    Examples
    --------
    >>> spelled("ab"), spelled(1), spelled("1")
    (b's2:ab', b'i1:1', b's1:1')
    """
    match name:
        case bytes():
            kind, text = b"b", name
        case str():
            kind, text = b"s", name.encode()
        case _:
            kind, text = b"i", b"%d" % index(name)
    return b"%b%d:%b" % (kind, len(text), text)
