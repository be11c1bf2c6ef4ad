"""The coordinator, event by event."""

import pytest

from umbel.base import InvalidTransition
from umbel.coordinator import (
    NODE_UNAVAILABLE,
    REPLY_MESSAGE_UNAVAILABLE,
    Ack,
    Answer,
    CancelTask,
    CloseSession,
    DeleteObject,
    Expired,
    Heartbeat,
    LaunchRun,
    Limits,
    Message,
    MessagesPushed,
    MessagesReleased,
    NodeConnected,
    NodeDisconnected,
    NodeGivenUp,
    NodeJoined,
    NodeRevoked,
    NotifyRun,
    Object,
    Reject,
    ReplyReceived,
    RunEnded,
    RunOver,
    RunResumed,
    RunStarted,
    RunSubmitted,
    SendTask,
    ServerStarted,
    SessionSilent,
    State,
    StopRun,
    TaskAccepted,
    TokenCreated,
    TokenUsed,
    check_state,
    due,
    may_pull,
    may_push,
    may_read_run,
    must_journal,
    next_deadline,
    step,
)
from umbel.records import ErrorCode

MODEL, BUNDLE, RESULT = Object("aa", 10), Object("bb", 20), Object("cc", 30)


class Plane:
    """A state with two nodes and a run that is going on."""

    def __init__(self, **limits):
        self.state = State(limits=Limits(**limits))
        for name in ("alice", "bob"):
            self.do(NodeJoined, 0, name=name, fingerprint=name)
        self.do(ServerStarted, 0)
        self.do(RunSubmitted, 0, run="r", owner="u", spec=b"", objects=(BUNDLE,))
        self.do(RunStarted, 0, run="r")

    def do(self, kind, at, **fields):
        effects = step(self.state, kind(at=float(at), **fields))
        check_state(self.state)
        return effects

    def connect(self, node, session, at=1, **fields):
        return self.do(NodeConnected, at, node=node, session=session, **fields)

    def push(self, *names, node=0, at=1, body=MODEL, run="r"):
        messages = tuple(message(n, node=node, body=body, run=run) for n in names)
        return self.do(MessagesPushed, at, run=run, messages=messages)

    def reply(self, name, at=2, node=0, answer=None):
        answer = answer or Answer(object=RESULT)
        return self.do(ReplyReceived, at, node=node, message=name, answer=answer)

    def failure(self, name):
        return self.state.messages[name].answer.failure

    def time(self, at):
        effects = []
        for event in due(self.state, at):
            effects += step(self.state, event)
            check_state(self.state)
        return effects


def message(name, node=0, body=MODEL, run="r", expires_at=100.0):
    fields = {"created_at": 0.0, "expires_at": expires_at, "body": body}
    return Message(id=name, run=run, node=node, type="train", **fields)


def sent(effects):
    return [(e.session, e.message.id) for e in effects if isinstance(e, SendTask)]


@pytest.fixture
def plane():
    return Plane()


def test_failures_have_the_codes_of_the_records():
    assert ErrorCode.NODE_UNAVAILABLE == NODE_UNAVAILABLE
    assert ErrorCode.REPLY_MESSAGE_UNAVAILABLE == REPLY_MESSAGE_UNAVAILABLE


def test_messages_go_out_in_order_as_capacity_allows(plane):
    plane.connect(0, 7, capacity=2)
    assert sent(plane.push("a", "b", "c", "d")) == [(7, "a"), (7, "b")]
    assert plane.reply("b") == [
        Ack(7, "b"),
        NotifyRun("r", "b"),
        SendTask(7, message("c")),
    ]
    assert sent(plane.reply("a", answer=Answer(content=b"x"))) == [(7, "d")]
    assert plane.state.messages["a"].answer.content == b"x"


def test_a_reply_counts_once(plane):
    plane.connect(0, 7)
    plane.push("a")
    plane.reply("a")
    assert plane.reply("a") == [Ack(7, "a")]
    other = Answer(object=Object("dd", 1))
    assert plane.reply("a", answer=other) == [Ack(7, "a"), DeleteObject("dd")]
    assert plane.reply("never heard of", answer=other) == [
        Ack(7, "never heard of"),
        DeleteObject("dd"),
    ]
    assert plane.state.messages["a"].answer == Answer(object=RESULT)


def test_a_node_answers_its_own_messages_only(plane):
    plane.push("a")
    for node in (1, 5):
        (effect,) = plane.reply("a", node=node)
        assert effect.code == "refused"
    plane.do(NodeRevoked, 2, node=0)
    (effect,) = plane.reply("a")
    assert effect.code == "refused"


def test_a_message_pushed_again_is_not_sent_again(plane):
    plane.connect(0, 7)
    plane.push("a")
    assert plane.push("a") == []
    plane.reply("a")
    assert plane.push("a") == [NotifyRun("r", "a")]
    (effect,) = plane.push("a", node=1)
    assert effect.code == "refused"


def test_what_a_node_holds_is_not_sent_again_when_it_reconnects(plane):
    plane.connect(0, 7, capacity=3)
    plane.push("a", "b", "c")
    plane.do(NodeDisconnected, 2, session=7)
    plane.do(MessagesReleased, 3, run="r", messages=("c",))
    effects = plane.connect(0, 8, at=4, capacity=3, held=("a", "c"))
    assert sent(effects) == [(8, "b")]
    assert CancelTask(8, "c", "the answer is not wanted any more") in effects
    plane.reply("a")
    plane.do(NodeDisconnected, 5, session=8)
    assert Ack(9, "a") in plane.connect(0, 9, at=6, held=("a",))


def test_a_second_session_of_a_node_ends_the_first(plane):
    plane.connect(0, 7)
    plane.push("a")
    effects = plane.connect(0, 8)
    assert effects[0] == CloseSession(7, "the node opened another session")
    assert sent(effects) == [(8, "a")]
    assert plane.do(NodeDisconnected, 2, session=7) == []
    assert plane.state.connected() == [0]


def test_a_message_expires(plane):
    plane.connect(0, 7)
    plane.push("a", "b")
    assert next_deadline(plane.state) == 61.0  # the session's silence
    assert due(plane.state, 60.0) == []
    plane.do(Heartbeat, 60, session=7)
    plane.do(TaskAccepted, 60, session=7, message="a")
    assert next_deadline(plane.state) == 100.0
    assert plane.time(100.0) == [
        CancelTask(7, "a", "its time is over"),
        NotifyRun("r", "a"),
        NotifyRun("r", "b"),
    ]
    assert plane.failure("a").code == REPLY_MESSAGE_UNAVAILABLE
    assert "100 s" in plane.failure("b").reason


def test_expiry_frees_capacity_for_what_still_has_time(plane):
    plane.connect(0, 7)
    late = message("late", expires_at=500.0)
    plane.push("a")
    plane.do(MessagesPushed, 1, run="r", messages=(late,))
    assert sent(plane.do(Expired, 100)) == [(7, "late")]


def test_a_node_that_stays_away_is_given_up(plane):
    plane.connect(0, 7)
    plane.push("a")
    plane.do(NodeDisconnected, 10, session=7)
    plane.push("b", node=1)  # never connected since the start at 0
    messages = (message("c", expires_at=1000.0), message("d", node=1, expires_at=1000.0))
    plane.do(MessagesPushed, 20, run="r", messages=messages)
    plane.do(Expired, 100)
    assert next_deadline(plane.state) == 300.0
    assert plane.time(300.0) == [NotifyRun("r", "d")]
    assert due(plane.state, 309.0) == []
    assert due(plane.state, 310.0) == [NodeGivenUp(at=310.0, node=0)]
    plane.connect(0, 8, at=310)
    assert due(plane.state, 311.0) == []
    assert plane.failure("d").code == NODE_UNAVAILABLE


def test_what_is_pushed_to_a_node_long_away_fails_at_once(plane):
    plane.do(MessagesPushed, 400, run="r", messages=(message("a", expires_at=1000.0),))
    assert due(plane.state, 400.0) == [NodeGivenUp(at=400.0, node=0)]


def test_a_silent_session_is_closed(plane):
    plane.connect(0, 7)
    plane.do(Heartbeat, 50, session=7)
    assert plane.time(61.0) == []
    (effect,) = plane.time(110.0)
    assert effect == CloseSession(7, "nothing was heard for 60 s")
    assert plane.do(SessionSilent, 111, session=7) == []


def test_a_session_that_accepts_no_task_is_closed():
    plane = Plane(accept_s=5)
    plane.connect(0, 7)
    plane.push("a")
    for at in (20, 40, 60):
        plane.do(Heartbeat, at, session=7)
    (effect,) = plane.time(61.0)
    assert effect == CloseSession(7, "a task was not accepted in time")


def test_messages_for_nodes_that_are_not_there_fail(plane):
    plane.do(NodeRevoked, 1, node=1)
    for node, why in ((1, "revoked"), (9, "no such node")):
        name = f"to {node}"
        assert plane.push(name, node=node) == [NotifyRun("r", name)]
        assert plane.failure(name).code == NODE_UNAVAILABLE
        assert why in plane.failure(name).reason


def test_a_revoked_node_is_shut_out(plane):
    plane.connect(0, 7)
    plane.push("a")
    assert plane.do(NodeRevoked, 2, node=0) == [
        CloseSession(7, "this node was revoked"),
        NotifyRun("r", "a"),
    ]
    assert plane.connect(0, 8) == [CloseSession(8, "this node was revoked")]
    (effect,) = plane.do(NodeJoined, 3, name="alice", fingerprint="alice")
    assert effect.code == "refused"
    assert plane.connect(5, 9) == [CloseSession(9, "this node is not known here")]


def test_objects_are_deleted_with_their_last_reference(plane):
    plane.push("a", "b")
    plane.reply("a")
    assert plane.do(MessagesReleased, 3, run="r", messages=("a", "a", "x")) == [
        DeleteObject(RESULT.hash)
    ]
    assert plane.do(MessagesReleased, 3, run="r", messages=("b",)) == [DeleteObject(MODEL.hash)]
    assert plane.state.references == {BUNDLE.hash: 1}


def test_the_end_of_a_run(plane):
    plane.connect(0, 7)
    plane.push("a")
    effects = plane.do(RunEnded, 5, run="r", status="stopped")
    assert effects == [
        StopRun("r"),
        CancelTask(7, "a", "the run is over"),
        DeleteObject(MODEL.hash),
        RunOver(7, "r", final=False),
    ]
    for kind in (RunStarted, RunEnded):
        fields = {"status": "failed"} if kind is RunEnded else {}
        (effect,) = plane.do(kind, 6, run="r", **fields)
        assert effect.code == "ended"
    assert plane.push("b")[0].code == "ended"
    assert plane.do(RunResumed, 7, run="r") == [LaunchRun("r")]
    assert plane.do(RunResumed, 7, run="r")[0].code == "exists"
    plane.do(RunEnded, 8, run="r", status="succeeded", detail="fine")
    assert plane.do(RunResumed, 9, run="r")[0].code == "ended"
    assert plane.state.runs["r"].detail == "fine"


def test_a_node_that_was_away_hears_of_the_end(plane):
    plane.push("a")
    plane.do(RunEnded, 5, run="r", status="succeeded")
    assert plane.connect(0, 7) == [RunOver(7, "r", final=True)]
    plane.do(NodeDisconnected, 6, session=7)
    assert plane.connect(0, 8) == []
    assert plane.connect(1, 9) == []  # it had no part in it


def test_another_run_goes_on_when_one_ends(plane):
    plane.connect(0, 7)
    plane.do(RunSubmitted, 1, run="s", owner="v", spec=b"")
    plane.push("a")
    plane.push("b", run="s")
    assert sent(plane.do(RunEnded, 5, run="r", status="failed")) == [(7, "b")]
    (effect,) = plane.do(MessagesReleased, 6, run="r", messages=("b",))
    assert effect.code == "refused"


def test_a_server_that_holds_too_much_says_so():
    plane = Plane(messages_max=2)
    plane.push("a", "b")
    (effect,) = plane.push("b", "c")
    assert effect.code == "busy"
    assert not must_journal(MessagesPushed(at=0.0, run="r", messages=()), [effect])
    assert plane.push("a", "b") == []


def test_unknown_and_doubled_names_are_refused(plane):
    for kind, fields, code in [
        (RunStarted, {"run": "x"}, "unknown"),
        (RunResumed, {"run": "x"}, "unknown"),
        (MessagesReleased, {"run": "x", "messages": ()}, "unknown"),
        (MessagesPushed, {"run": "x", "messages": ()}, "unknown"),
        (MessagesPushed, {"run": "r", "messages": (message("a", run="s"),)}, "refused"),
        (NodeRevoked, {"node": 9}, "unknown"),
        (RunSubmitted, {"run": "r", "owner": "u", "spec": b""}, "exists"),
    ]:
        (effect,) = plane.do(kind, 1, **fields)
        assert isinstance(effect, Reject)
        assert effect.code == code, kind


def test_a_token_works_once_and_for_its_own_key_again(plane):
    def join(key, at=10, token="t", name="carol"):
        effects = plane.do(NodeJoined, at, name=name, fingerprint=key, token=token)
        return effects[0].code if effects else plane.state.node_of(key).id

    plane.do(TokenCreated, 1, token="t", role="node", name="carol", expires_at=20.0)
    plane.do(TokenCreated, 1, token="u", role="user", name="", expires_at=20.0)
    again = {"token": "t", "role": "node", "name": "", "expires_at": 1.0}
    assert plane.do(TokenCreated, 1, **again)[0].code == "exists"
    assert join("k", token="?") == "unknown"
    assert join("k", token="u") == "refused"
    assert join("k", name="mallory") == "refused"
    assert join("k", at=21) == "expired"
    assert join("k") == 2
    assert join("k", at=30) == 2
    assert join("l") == "used"
    assert plane.do(TokenUsed, 2, token="u", fingerprint="p") == []
    assert plane.do(TokenUsed, 2, token="u", fingerprint="q")[0].code == "used"
    assert plane.do(TokenUsed, 2, token="t", fingerprint="q")[0].code == "refused"


def test_who_may_see_what(plane):
    state = plane.state
    assert not may_pull(state, 0, MODEL.hash)
    assert not may_push(state, 0)
    plane.push("a")
    assert may_pull(state, 0, MODEL.hash)
    assert may_pull(state, 0, BUNDLE.hash)
    assert may_push(state, 0)
    for node, thing in ((0, RESULT), (1, MODEL), (1, BUNDLE), (9, MODEL)):
        assert not may_pull(state, node, thing.hash)
    plane.reply("a")
    assert not may_pull(state, 0, BUNDLE.hash)
    assert not may_push(state, 0)
    assert may_read_run(state, "u", "r")
    assert not may_read_run(state, "v", "r")
    assert may_read_run(state, "v", "r", admin=True)
    assert not may_read_run(state, "v", "x", admin=True)


def test_a_defect_of_the_shell_is_told(plane):
    plane.connect(0, 7)
    with pytest.raises(InvalidTransition, match="once a process"):
        plane.do(ServerStarted, 1)
    with pytest.raises(InvalidTransition, match="used once"):
        plane.connect(1, 7)
    with pytest.raises(InvalidTransition, match="no such event"):
        step(plane.state, object())
