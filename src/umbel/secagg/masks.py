"""Masks: the key streams that hide a vector, and that cancel in the sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.base import KeyStream, derive_key, for_each

Vector: TypeAlias = npt.NDArray[Any]
"""Numbers modulo 2**bits: uint16, uint32 or uint64, one dimension."""
SignedKey: TypeAlias = tuple[bytes, int]
"""The key of a mask, and +1 to add it or -1 to subtract it."""

_CHUNK_BYTES = 1 << 17
"""What is worked on at once; with the stream's part of the same size it stays in the cache."""
_SEGMENTS = 8
_BLOCK_BYTES = 16
_STREAMS_AT_ONCE = 128


def pair_key(secret: bytes, binding: bytes, node: int, other: int) -> bytes:
    """Return the key of the mask that two clients share; their order does not matter.

    The ids count because different public keys can agree on one secret (RFC 7748, section 7): a
    client that advertised another's key in other bytes would cancel the mask of an honest pair.

    Parameters
    ----------
    secret : bytes
        What their mask keys agree on; all its 256 bits count.
    binding : bytes
        The hash of session, roster and model: clients with different ones get unrelated masks.
    node, other : int
        The two.
    """
    return derive_key(secret, "pair mask", binding, min(node, other), max(node, other))


def self_key(seed: bytes, binding: bytes) -> bytes:
    """Return the key of the mask that is a client's alone."""
    return derive_key(seed, "self mask", binding)


def pair_sign(node: int, other: int) -> int:
    """Return +1 if ``node`` adds the mask of the two, -1 if it subtracts it."""
    return 1 if node < other else -1


def add_masks(vector: Vector, masks: Sequence[SignedKey]) -> None:
    """Add masks to a vector in place, or subtract them, modulo ``2**bits``.

    Parameters
    ----------
    vector : ndarray of uint16, uint32 or uint64, shape (length,)
        Contiguous and writeable.
    masks : sequence of (bytes, int)
        Keys, each with +1 or -1.

    Examples
    --------
    >>> vector = np.arange(3, dtype=np.uint16)
    >>> add_masks(vector, [(bytes(32), 1), (bytes(32), -1)])
    >>> vector.tolist()
    [0, 1, 2]
    """
    chunk = _CHUNK_BYTES // vector.itemsize
    segment = max(-(-len(vector) // (_SEGMENTS * chunk)), 1) * chunk
    for first in range(0, len(masks), _STREAMS_AT_ONCE):
        some = masks[first : first + _STREAMS_AT_ONCE]

        def add(start: int, some: Sequence[SignedKey] = some) -> None:
            _add(vector[start : start + segment], some, start * vector.itemsize // _BLOCK_BYTES)

        for_each(add, range(0, len(vector), segment), vector.nbytes * len(some))


def _add(part: Vector, masks: Sequence[SignedKey], block: int) -> None:
    streams = [(KeyStream(key, block=block), sign) for key, sign in masks]
    chunk = _CHUNK_BYTES // part.itemsize
    words = np.empty(min(chunk, len(part)), part.dtype.newbyteorder("<"))
    for start in range(0, len(part), chunk):
        piece = part[start : start + chunk]
        mask = words[: len(piece)]
        for stream, sign in streams:
            stream.fill(mask)
            (np.add if sign > 0 else np.subtract)(piece, mask, out=piece)
