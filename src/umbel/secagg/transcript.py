"""Hashes of what was said: parts cannot be shifted into each other, nor taken for another kind."""

from __future__ import annotations

import hashlib

from umbel.base import spelled

HASH_BYTES = 32


def digest(*parts: str | int | bytes) -> bytes:
    """Return the SHA-256 of the parts; the type and the length of each count.

    Examples
    --------
    >>> digest("ab", "c") == digest("a", "bc")
    False
    >>> digest(1) == digest("1")
    False
    """
    told = hashlib.sha256(b"umbel-secagg")
    for part in parts:
        told.update(spelled(part))
    return told.digest()
