"""Hashes of what was said: parts cannot be shifted into each other, nor taken for another kind."""

from __future__ import annotations

import hashlib

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
        match part:
            case bytes():
                kind, text = b"b", part
            case str():
                kind, text = b"s", part.encode()
            case _:
                kind, text = b"i", b"%d" % part
        told.update(b"%b%d:%b" % (kind, len(text), text))
    return told.digest()
