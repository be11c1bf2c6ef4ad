"""What the coordinator forgets, and that a long life leaves it as small as it was."""

import pytest

from umbel.coordinator import (
    Answer,
    CloseSession,
    DeleteObject,
    EraseRun,
    Heartbeat,
    LaunchRun,
    Limits,
    Message,
    MessagesPushed,
    NodeConnected,
    NodeJoined,
    Object,
    Reject,
    ReplyReceived,
    RunEnded,
    RunErased,
    RunOver,
    RunRemoved,
    RunResumed,
    RunSubmitted,
    ServerStarted,
    State,
    TokenCreated,
    TokensExpired,
    TokenUsed,
    check_state,
    outdated,
    state_to_json,
    step,
)

BUNDLE = Object("bb", 20)
DAY_S = 86_400.0


@pytest.fixture
def state():
    """A state with a node that is connected on session 7."""
    state = State()
    step(state, NodeJoined(at=0.0, name="alice", fingerprint="a"))
    step(state, ServerStarted(at=0.0))
    step(state, NodeConnected(at=0.0, node=0, session=7))
    return state


def submit(state, run, at=0.0):
    return step(state, RunSubmitted(at=at, run=run, owner="u", spec=b"", objects=(BUNDLE,)))


def push(state, run, name, at=0.0):
    times = {"created_at": at, "expires_at": 1e9}
    message = Message(id=name, run=run, node=0, type="train", **times)
    return step(state, MessagesPushed(at=at, run=run, messages=(message,)))


def refusal(effects):
    (effect,) = effects
    assert isinstance(effect, Reject)
    return f"{effect.code}: {effect.reason}"


def test_a_run_that_is_over_is_removed(state):
    submit(state, "r")
    push(state, "r", "a")
    assert "stop it first" in refusal(step(state, RunRemoved(at=1.0, run="r")))
    step(state, RunEnded(at=1.0, run="r", status="failed"))
    assert step(state, RunRemoved(at=2.0, run="r")) == [
        RunOver(7, "r", final=True),
        DeleteObject(BUNDLE.hash),
        EraseRun("r"),
    ]
    check_state(state)
    assert state.durable()[1:] == ({}, {}, {}, {}, {"r"})
    for kind in (RunRemoved, RunResumed):
        assert "unknown" in refusal(step(state, kind(at=3.0, run="r")))
    assert "being removed" in refusal(submit(state, "r"))
    again = step(state, NodeConnected(at=4.0, node=0, session=8))
    assert again == [CloseSession(7, "the node opened another session")]
    assert step(state, RunErased(at=5.0, run="r")) == []
    assert "unknown" in refusal(step(state, RunErased(at=5.0, run="r")))
    assert submit(state, "r") == [LaunchRun("r")]


def test_a_server_that_starts_goes_on_removing():
    state = State(removed={"r"})
    assert step(state, ServerStarted(at=0.0)) == [EraseRun("r")]


def test_what_has_had_its_time(state):
    step(state, TokenCreated(at=1.0, token="t", role="user", name="u", expires_at=20.0))
    submit(state, "r")
    submit(state, "going on")
    step(state, RunEnded(at=2.0, run="r", status="succeeded"))
    assert outdated(state, DAY_S + 20) == []
    assert outdated(state, DAY_S + 21) == [TokensExpired(at=DAY_S + 21)]
    step(state, TokensExpired(at=DAY_S + 20))
    assert "t" in state.tokens
    step(state, TokensExpired(at=DAY_S + 21))
    assert state.tokens == {}
    state.limits = Limits(keep_runs_s=DAY_S)
    assert outdated(state, DAY_S + 1) == []
    assert outdated(state, DAY_S + 2) == [RunRemoved(at=DAY_S + 2, run="r")]


def test_two_thousand_runs_leave_the_state_that_there_was(state):
    before, most = state_to_json(state), 0
    for n in range(2000):
        at, run, name = 10.0 * n, f"run {n}", f"message {n}"
        step(state, Heartbeat(at=at, session=7))
        token = {"token": name, "role": "user", "name": "u", "expires_at": at + 10}
        step(state, TokenCreated(at=at, **token))
        step(state, TokenUsed(at=at, token=name, fingerprint="p"))
        submit(state, run, at)
        push(state, run, name, at)
        answer = Answer(object=Object("cc", 30))
        step(state, ReplyReceived(at=at, node=0, message=name, answer=answer))
        step(state, RunEnded(at=at, run=run, status="succeeded"))
        step(state, RunRemoved(at=at, run=run))
        step(state, RunErased(at=at, run=run))
        most = max(most, len(state.expiries))
    (event,) = outdated(state, 3e5)
    step(state, event)
    check_state(state)
    assert state_to_json(state) == before
    live = state.live
    indexes = (state.references, state.waiting[0], state.by_run, live.sessions[7].unsent)
    assert not any(indexes)
    assert len(live.silences) == 1
    assert not live.absences
    assert most < 1100  # the deadlines of what was answered long before them are dropped
