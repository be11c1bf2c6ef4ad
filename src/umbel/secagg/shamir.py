"""Shamir's secret sharing: any ``threshold`` shares give the secret, and fewer say nothing of it.

Shamir, "How to share a secret", 1979. A secret is cut into limbs of 30 bits, each the constant term
of a random polynomial of its own over the field of ``field.py``; all are worked on at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from umbel.base import KeyStream, SecAggAborted
from umbel.secagg.field import (
    PRIME,
    Elements,
    evaluated,
    reduced,
    uniform_elements,
    weights_at_zero,
)

SECRET_BYTES = 32
_LIMB_BITS = 30
_LIMBS = 9  # 9 * 30 bits hold 32 bytes
SHARE_BYTES = 4 * _LIMBS
"""Bytes of one share of one secret of 32 bytes."""


def split(secret: bytes, holders: int, threshold: int, stream: KeyStream) -> list[bytes]:
    """Return one share a holder; the holder at index ``i`` has the point ``i + 1``.

    Parameters
    ----------
    secret : bytes
        One secret of 32 bytes, or several joined; each has 36 bytes in a share.
    holders : int
        How many shares to make.
    threshold : int
        How many of them give the secret, ``1 <= threshold <= holders``.
    stream : KeyStream
        Where the polynomials are drawn from; its key must be fresh.

    Examples
    --------
    >>> from umbel.base import fresh_key
    >>> shares = split(b"s" * 32, 5, 3, KeyStream(fresh_key()))
    >>> combine([1, 3, 5], [[shares[0], shares[2], shares[4]]])
    [b'ssssssssssssssssssssssssssssssss']
    """
    limbs = np.concatenate([_limbs(part) for part in _parts(secret)])
    drawn = uniform_elements(stream, (threshold - 1, limbs.size))
    points = np.arange(1, holders + 1, dtype=np.uint64)
    values = evaluated(np.concatenate([limbs[None], drawn]), points)
    return [row.tobytes() for row in values.astype("<u4")]


def check_share(share: bytes, node: int) -> None:
    """Refuse what cannot be a share of one secret, from the node that made or sent it.

    Raises
    ------
    SecAggAborted
        It has another length, or a number in it lies outside the field.
    """
    if len(share) != SHARE_BYTES:
        raise SecAggAborted(
            f"a share has {SHARE_BYTES} bytes, this one has {len(share)}", node=node
        )
    if (np.frombuffer(share, "<u4") >= PRIME).any():
        raise SecAggAborted("a share holds a number outside the field", node=node)


def combine(points: Sequence[int], shares: Sequence[Sequence[bytes]]) -> list[bytes | None]:
    """Return the secrets whose shares at the same points are given.

    With fewer points than the threshold, or a wrong share, what comes out is unrelated to the
    secret: check it against something that is known of it.

    Parameters
    ----------
    points : sequence of int
        The holders' points, distinct.
    shares : sequence of sequences of bytes
        For each secret its shares, in the order of the points.

    Returns
    -------
    list of bytes or None
        None where what comes out is not 32 bytes, so that some share must be wrong.
    """
    joined = b"".join(share for row in shares for share in row)
    table = np.frombuffer(joined, "<u4").astype(np.uint64).reshape(len(shares), len(points), _LIMBS)
    limbs = reduced(reduced(weights_at_zero(points)[None, :, None] * table).sum(axis=1))
    return [_joined(row) for row in limbs]


def _parts(secret: bytes) -> list[bytes]:
    return [secret[i : i + SECRET_BYTES] for i in range(0, len(secret), SECRET_BYTES)]


def _limbs(secret: bytes) -> Elements:
    number = int.from_bytes(secret, "little")
    mask = (1 << _LIMB_BITS) - 1
    return np.array([number >> (_LIMB_BITS * i) & mask for i in range(_LIMBS)], np.uint64)


def _joined(limbs: Elements) -> bytes | None:
    number = sum(int(limb) << (_LIMB_BITS * i) for i, limb in enumerate(limbs))
    if (limbs >> np.uint64(_LIMB_BITS)).any() or number >> (8 * SECRET_BYTES):
        return None
    return number.to_bytes(SECRET_BYTES, "little")
