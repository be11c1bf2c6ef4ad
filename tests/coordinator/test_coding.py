"""Events and states as JSON, both ways."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import JournalCorrupt
from umbel.coordinator import (
    Answer,
    Expired,
    Failure,
    Message,
    MessagesPushed,
    MessagesReleased,
    NodeGivenUp,
    NodeJoined,
    NodeRevoked,
    Object,
    ReplyReceived,
    RunEnded,
    RunErased,
    RunRemoved,
    RunResumed,
    RunStarted,
    RunSubmitted,
    State,
    TokenCreated,
    TokensExpired,
    TokenUsed,
    event_from_json,
    event_to_json,
    restore,
    state_to_json,
    step,
)

text = st.text(max_size=20)
at = st.floats(allow_nan=False, allow_infinity=False)
objects = st.builds(Object, text, st.integers(0, 2**63))
answers = (
    st.builds(Answer, object=objects)
    | st.builds(Answer, content=st.binary(max_size=20), codec=text)
    | st.builds(Answer, failure=st.builds(Failure, st.integers(0, 9), text, text))
)
messages = st.builds(
    Message,
    id=text,
    run=text,
    node=st.integers(0, 9),
    type=text,
    group=text,
    created_at=at,
    expires_at=at,
    body=st.none() | objects,
    records=st.binary(max_size=20),
    codec=text,
)
ends = st.sampled_from(["succeeded", "failed", "stopped"])
node = st.integers(0, 2**63)
events = st.one_of(
    st.builds(TokenCreated, at=at, token=text, role=text, name=text, expires_at=at),
    st.builds(TokenUsed, at=at, token=text, fingerprint=text),
    st.builds(TokensExpired, at=at),
    st.builds(
        NodeJoined,
        at=at,
        name=text,
        fingerprint=text,
        tags=st.dictionaries(text, text, max_size=3),
        token=st.none() | text,
    ),
    st.builds(NodeRevoked, at=at, node=node),
    st.builds(
        RunSubmitted,
        at=at,
        run=text,
        owner=text,
        spec=st.binary(),
        objects=st.lists(objects, max_size=3).map(tuple),
    ),
    st.builds(RunStarted, at=at, run=text),
    st.builds(RunEnded, at=at, run=text, status=ends, detail=text),
    st.builds(RunResumed, at=at, run=text),
    st.builds(RunRemoved, at=at, run=text),
    st.builds(RunErased, at=at, run=text),
    st.builds(MessagesPushed, at=at, run=text, messages=st.lists(messages, max_size=3).map(tuple)),
    st.builds(ReplyReceived, at=at, node=node, message=text, answer=answers),
    st.builds(MessagesReleased, at=at, run=text, messages=st.lists(text, max_size=3).map(tuple)),
    st.builds(Expired, at=at),
    st.builds(NodeGivenUp, at=at, node=node),
)


@settings(max_examples=300)
@given(events)
@pytest.mark.slow
def test_an_event_comes_back(event):
    data = event_to_json(event)
    assert event_from_json(data) == event
    assert b"\n" not in data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"event":"Heartbeat","at":1.0,"session":1}',
        b'{"event":"Tomorrow","at":1.0}',
        b'{"event":"Expired"}',
        b'{"event":"Expired","at":"soon"}',
        b'{"event":"Expired","at":1.0,"more":1}',
        b'{"event":"NodeRevoked","at":1.0,"node":true}',
        b'{"event":"RunEnded","at":1.0,"run":"r","status":"lost"}',
        b'{"event":"RunSubmitted","at":1.0,"run":"r","owner":"u","spec":"?"}',
        b'{"event":"MessagesReleased","at":1.0,"run":"r","messages":[1]}',
    ],
)
def test_what_is_no_event_is_told(data):
    with pytest.raises(JournalCorrupt):
        event_from_json(data)
    with pytest.raises(JournalCorrupt) as caught:
        restore(None, [(5, data)])
    assert caught.value.context["number"] == 5


def test_an_event_that_could_not_have_happened_is_told():
    entry = event_to_json(RunStarted(at=0.0, run="r"))
    with pytest.raises(JournalCorrupt, match="RunStarted cannot have happened"):
        restore(None, [(1, entry)])


def test_a_state_comes_back():
    state = State()
    step(state, NodeJoined(at=1.0, name="a", fingerprint="k", tags={"site": "x"}))
    step(state, TokenCreated(at=1.0, token="t", role="user", name="", expires_at=9.0))
    step(state, TokenUsed(at=1.0, token="t", fingerprint="p"))
    run = {"run": "r", "owner": "u", "spec": b"\0", "objects": (Object("b", 1),)}
    step(state, RunSubmitted(at=1.0, **run))
    fields = {"run": "r", "type": "train", "created_at": 1.0, "expires_at": 9.0}
    pushed = tuple(Message(id=i, node=0, body=Object("m", 2), **fields) for i in ("x", "y"))
    step(state, MessagesPushed(at=1.0, run="r", messages=pushed))
    step(state, ReplyReceived(at=1.0, node=0, message="x", answer=Answer(content=b"c")))
    step(state, RunSubmitted(at=1.0, run="s", owner="u", spec=b""))
    step(state, RunEnded(at=1.0, run="s", status="failed"))
    step(state, RunRemoved(at=1.0, run="s"))
    again = restore(state_to_json(state), [])
    assert again.removed == {"s"}
    assert again.durable() == state.durable()
    assert again.waiting == {0: {"y": None}}
    assert again.references == state.references
    assert again.node_of("k") == state.node_of("k")


def test_a_snapshot_of_a_release_that_removed_nothing():
    data = b'{"format":1,"nodes":[],"tokens":{},"runs":[],"messages":[],"members":{}}'
    assert restore(data, []).durable() == State().durable()


@pytest.mark.parametrize(
    "data", [b"{}", b'{"format":9}', b'{"format":1}', b'{"format":1,"nodes":2}']
)
def test_what_is_no_snapshot_is_told(data):
    with pytest.raises(JournalCorrupt):
        restore(data, [])


def test_what_was_written_before_there_were_codecs_is_read():
    entry = b'{"event":"ReplyReceived","at":1.0,"node":0,"message":"m","answer":{"content":"YQ=="}}'
    event = event_from_json(entry)
    assert event.answer == Answer(content=b"a", codec="")
    assert event_to_json(event) == entry
