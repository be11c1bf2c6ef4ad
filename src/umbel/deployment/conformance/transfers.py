"""Cases about objects: chunks, cuts and hashes."""

from __future__ import annotations

import numpy as np

from umbel.base import ProtocolError
from umbel.deployment.conformance.player import Case, Player, unique
from umbel.deployment.transfer import CHUNK_BYTES
from umbel.records import ErrorCode

_CUT_AFTER_BYTES = 2 * CHUNK_BYTES


async def _large(player: Player) -> None:
    arrays = _mebibytes()
    session = await player.session()
    reply = await player.answered(session, player.train(arrays))
    player.check_trained(reply, arrays)


async def _cut_pull(player: Player) -> None:
    arrays = _mebibytes()
    session = await player.session()
    task = player.train(arrays)
    player.objects.cuts, player.objects.cut_after_bytes = 1, _CUT_AFTER_BYTES
    player.check_trained(await player.answered(session, task), arrays)
    offsets = [offset for name, offset in player.objects.pulls if name == task.body.hash]
    _check_resumed(offsets)


async def _cut_push(player: Player) -> None:
    arrays = _mebibytes()
    session = await player.session()
    player.objects.push_cuts, player.objects.cut_after_bytes = 1, _CUT_AFTER_BYTES
    reply = await player.answered(session, player.train(arrays))
    player.check_trained(reply, arrays)
    _check_resumed([offset for name, offset in player.objects.pushes if name == reply.body.hash])


async def _wrong_hash(player: Player) -> None:
    session = await player.session()
    arrays = unique(10)
    task = player.train(arrays)
    good = player.objects.complete[task.body.hash]
    player.objects.complete[task.body.hash] = good[:-1] + bytes([good[-1] ^ 1])
    reply = await player.answered(session, task)
    player.check_failed(reply, ErrorCode.MESSAGE_UNAVAILABLE)
    player.objects.complete[task.body.hash] = good
    player.check_trained(await player.answered(session, player.train(arrays)), arrays)


def _mebibytes() -> dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    return unique(CHUNK_BYTES)


def _check_resumed(offsets: list[int]) -> None:
    if len(offsets) < 2:
        raise ProtocolError("it did not go on after the cut")
    if offsets[1] != _CUT_AFTER_BYTES:
        raise ProtocolError(
            f"after a cut at byte {_CUT_AFTER_BYTES} it went on at byte {offsets[1]}"
        )


TRANSFERS = (
    Case(
        "large",
        "A body of several chunks is fetched, and a large reply pushed as an object",
        _large,
    ),
    Case("cut-pull", "A download that is cut goes on at the byte where it was cut", _cut_pull),
    Case("cut-push", "An upload that is cut goes on at the byte that Stat tells", _cut_push),
    Case(
        "wrong-hash", "A body that is not what it is named by is refused, with code 3", _wrong_hash
    ),
)
