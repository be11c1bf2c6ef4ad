"""Who may push is told when there is room, in turn, and room is never lost."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.deployment.server import intake
from umbel.deployment.server.intake import Intake

MB = 1024 * 1024


async def settled() -> None:
    """Let every task run as far as it gets."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_next_is_let_in_when_one_has_ended():
    async def scenario():
        room = Intake(10 * MB)
        await room.admit(("a", "x"), 100 * MB)  # counts as eight
        second = asyncio.create_task(room.admit(("b", "x"), 3 * MB))
        third = asyncio.create_task(room.admit(("c", "x"), 1))
        await settled()
        assert not second.done()
        assert not third.done()  # nobody overtakes
        async with room.taking(("a", "x"), 100 * MB):
            await settled()
            assert not second.done()
        await asyncio.gather(second, third)

    asyncio.run(scenario())


def test_asking_twice_takes_room_once():
    async def scenario():
        room = Intake(8 * MB)
        for _ in range(3):
            await room.admit(("a", "x"), 8 * MB)
        async with room.taking(("a", "x"), 8 * MB):
            pass
        await room.admit(("b", "x"), 8 * MB)

    asyncio.run(scenario())


def test_who_brings_more_than_it_asked_for_waits_for_that():
    async def scenario():
        room = Intake(8 * MB)
        await room.admit(("b", "x"), 1)
        async with room.taking(("a", "x"), 7 * MB):
            more = asyncio.create_task(room.admit(("b", "x"), 8 * MB))
            await settled()
            assert not more.done()
        await asyncio.wait_for(more, 30)

    asyncio.run(scenario())


def test_who_does_not_begin_gives_way(monkeypatch):
    monkeypatch.setattr(intake, "_BEGIN_S", 0.01)

    async def scenario():
        room = Intake(8 * MB)
        await room.admit(("a", "x"), 8 * MB)
        await asyncio.wait_for(room.admit(("b", "x"), 8 * MB), 30)

    asyncio.run(scenario())


@pytest.mark.parametrize("bytes_s", [0, 5_000_000])
def test_a_slow_push_leaves_room_to_others(monkeypatch, bytes_s):
    monkeypatch.setattr(intake, "_SLOW_AFTER_S", 0.0)
    monkeypatch.setattr(intake, "_SLOW_BYTES_S", bytes_s)

    async def scenario():
        room = Intake(8 * MB)
        async with room.taking(("a", "x"), 8 * MB) as have_come:
            other = asyncio.create_task(room.admit(("b", "x"), 7 * MB))
            for _ in range(2):
                have_come(0)
            await settled()
            assert other.done() == (bytes_s > 0)
        await other
        assert room._free == 1 * MB

    asyncio.run(scenario())


@pytest.mark.parametrize("asks_first", [True, False])
def test_who_hangs_up_while_it_waits_takes_no_room(asks_first):
    async def pushing(room, key):
        if asks_first:
            await room.admit(key, 8 * MB)
        async with room.taking(key, 8 * MB):
            pass

    async def scenario():
        room = Intake(8 * MB)
        async with room.taking(("a", "x"), 8 * MB):
            gone = asyncio.create_task(pushing(room, ("b", "x")))
            stays = asyncio.create_task(pushing(room, ("c", "x")))
            await settled()
            gone.cancel()
        await asyncio.wait_for(stays, 30)

    asyncio.run(scenario())


@given(
    st.lists(st.tuples(st.integers(0, 20 * MB), st.booleans(), st.integers(0, 6)), max_size=30),
)
@settings(max_examples=50)
def test_room_is_never_lost_and_never_exceeded(pushes):
    async def scenario():
        room, used, most = Intake(16 * MB), 0, 0

        async def push(number, size, asks):
            nonlocal used, most
            key = (str(number), "x")
            if asks:
                await room.admit(key, size)
            async with room.taking(key, size):
                used += min(size, 8 * MB)
                most = max(most, used)
                try:
                    await settled()
                finally:
                    used -= min(size, 8 * MB)

        async def cut(task, after):
            for _ in range(after):
                await asyncio.sleep(0)
            if after % 2:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        tasks = [
            (asyncio.create_task(push(number, size, asks)), after)
            for number, (size, asks, after) in enumerate(pushes)
        ]
        await asyncio.gather(*(cut(task, after) for task, after in tasks))
        assert most <= 16 * MB
        for key in list(room._admitted):  # asked, and hung up before they began
            room.drop(key)
        assert room._free == 16 * MB
        assert not room._waiting

    asyncio.run(scenario())
