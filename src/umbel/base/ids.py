"""Names of things: random identifiers, and hashes that name content."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

SERVER_NODE_ID = (1 << 64) - 1
"""The node id that messages from the server carry as their source."""


def new_id() -> str:
    """Return 32 random hexadecimal digits.

    Examples
    --------
    >>> len(new_id())
    32
    """
    return secrets.token_hex(16)


def new_run_id(now_s: float) -> str:
    """Return an identifier for a run that sorts by time: ``20261124-101500-3fa9``.

    Parameters
    ----------
    now_s : float
        Seconds since the Unix epoch.
    """
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{secrets.token_hex(2)}"


def content_hash(buffers: Iterable[bytes | bytearray | memoryview]) -> str:
    """Return the SHA-256 of the buffers, read one after the other, as hexadecimal digits.

    Examples
    --------
    >>> content_hash([b"ab", b"c"]) == content_hash([b"abc"])
    True
    """
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()
