"""The coordinator is no bottleneck."""

import pytest

from umbel.base import SYSTEM_CLOCK
from umbel.coordinator import (
    Answer,
    Message,
    MessagesPushed,
    NodeConnected,
    NodeJoined,
    ReplyReceived,
    RunSubmitted,
    SendTask,
    State,
    next_deadline,
    step,
)


def sent(effects):
    return [effect.message.id for effect in effects if isinstance(effect, SendTask)]


@pytest.mark.slow
def test_ten_thousand_messages_are_sent_and_answered_in_half_a_second():
    state = State()
    step(state, NodeJoined(at=0.0, name="a", fingerprint="k"))
    step(state, RunSubmitted(at=0.0, run="r", owner="u", spec=b""))
    step(state, NodeConnected(at=0.0, node=0, session=1, capacity=10))
    fields = {"run": "r", "node": 0, "type": "train", "created_at": 0.0, "expires_at": 9.0}
    messages = tuple(Message(id=f"{n:032x}", **fields) for n in range(10_000))
    begin = SYSTEM_CLOCK.monotonic()
    waiting = sent(step(state, MessagesPushed(at=1.0, run="r", messages=messages)))
    for name in waiting:  # grows
        reply = ReplyReceived(at=2.0, node=0, message=name, answer=Answer(content=b""))
        waiting += sent(step(state, reply))
        next_deadline(state)
    assert SYSTEM_CLOCK.monotonic() - begin < 0.5
    assert waiting == [message.id for message in messages]
