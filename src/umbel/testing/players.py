"""Who plays in a virtual world: a server around the real coordinator, its app, and nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from typing import Any

from umbel.base import Seeds
from umbel.coordinator import (
    Ack,
    Answer,
    CancelTask,
    CloseSession,
    DeleteObject,
    DurableEvent,
    Effect,
    EraseRun,
    Event,
    Heartbeat,
    LaunchRun,
    Message,
    MessagesPushed,
    MessagesReleased,
    NodeConnected,
    NotifyRun,
    Object,
    Reject,
    ReplyReceived,
    RunEnded,
    RunErased,
    RunOver,
    RunStarted,
    SendTask,
    ServerStarted,
    State,
    TaskAccepted,
    check_state,
    due,
    event_to_json,
    may_pull,
    must_journal,
    next_deadline,
    restore,
    state_to_json,
    step,
)
from umbel.store import MemoryJournal
from umbel.testing.network import Loop, Network
from umbel.testing.worlds import World

_BEAT_S = 15.0
_PATIENCE_S = 40.0
RUN = "run"


class Server:
    """A shell without I/O around the real coordinator; its journal outlives it."""

    def __init__(self, loop: Loop, network: Network, world: World) -> None:
        self.loop, self.network = loop, network
        self.journal = MemoryJournal()
        self.state = State()
        self.history = [state_to_json(self.state)]
        self.up = True
        self.dies_in: list[int] = []
        self.objects: set[str] = set()
        self.folders: set[str] = set()
        self.effects_seen: set[str] = set()
        self.links: dict[int, tuple[int, Callable[[Any], None]]] = {}
        self.nodes: list[NodeModel] = []
        self.app = App(self, world)
        self._wake_at: float | None = None
        self._life = 0

    def handle(self, event: Event) -> None:
        """Step, journal, carry out; a crash may come in between."""
        effects = step(self.state, event)
        check_state(self.state)
        if must_journal(event, effects) and isinstance(event, DurableEvent):
            if self._dies():
                return
            self.journal.append([event_to_json(event)])
            self.history.append(state_to_json(self.state))
            if self._dies():
                return
        life = self._life
        for effect in effects:
            self.effects_seen.add(type(effect).__name__)
            self._carry_out(effect)
            if self._life != life:
                return
        self._set_alarm()

    def _dies(self) -> bool:
        self.dies_in = [left - 1 for left in self.dies_in]
        if 0 not in self.dies_in:
            return False
        self.dies_in.remove(0)
        self.crash()
        return True

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SendTask(session, message):
                body = message.body
                assert body is not None
                assert body.hash in self.objects, "a body was deleted too early"
                assert may_pull(self.state, message.node, body.hash)
                self._send(session, effect)
            case Ack(session) | CancelTask(session) | RunOver(session):
                self._send(session, effect)
            case CloseSession(session):
                self._send(session, effect)
                self.links.pop(session, None)
            case NotifyRun(_, message):
                answer = self.state.messages[message].answer
                assert answer is not None
                if answer.object is not None:
                    assert answer.object.hash in self.objects, "an answer was deleted too early"
                self.app.notified(message, answer)
            case LaunchRun(run):
                self.folders.add(run)
                self.loop.after(0.1, self.app.launch())
            case EraseRun(run):
                life = self._life
                self.loop.after(0.1, lambda: self._erase(run) if life == self._life else None)
            case DeleteObject(hash):
                assert hash not in self.state.references
                self.objects.discard(hash)
            case Reject(code, reason):
                raise AssertionError(f"refused as {code}: {reason}")

    def _erase(self, run: str) -> None:
        self.folders.discard(run)
        self.handle(RunErased(at=self.loop.now, run=run))

    def _send(self, session: int, thing: object) -> None:
        if session in self.links:
            node, deliver = self.links[session]
            self.network.send(node, False, deliver, thing)

    def _set_alarm(self) -> None:
        deadline = next_deadline(self.state)
        if deadline is not None and (self._wake_at is None or deadline < self._wake_at):
            self._wake_at, life = deadline, self._life
            self.loop.at(deadline, lambda: self._wake() if life == self._life else None)

    def _wake(self) -> None:
        life, self._wake_at = self._life, None
        for event in due(self.state, self.loop.now):
            if life == self._life:
                self.handle(event)
        if life == self._life:
            self._set_alarm()

    def receive(self, node: int, deliver: Callable[[Any], None], session: int, thing: Any) -> None:
        """Take what a node sent; what comes on a session that is not open is turned away."""
        if not self.up:
            return
        now = self.loop.now
        if isinstance(thing, NodeConnected):
            if session not in self.links:
                self.links[session] = node, deliver
                self.handle(NodeConnected(at=now, **thing_fields(thing)))
                self._send(session, Heartbeat(at=now, session=session))
        elif session not in self.links:
            self.network.send(node, False, deliver, CloseSession(session, "not open"))
        elif isinstance(thing, Heartbeat):
            self.handle(Heartbeat(at=now, session=session))
            self._send(session, thing)
        elif isinstance(thing, TaskAccepted):
            self.handle(TaskAccepted(at=now, session=session, message=thing.message))
        elif isinstance(thing, ReplyReceived):
            if thing.answer.object is not None:
                self.objects.add(thing.answer.object.hash)
            self.handle(
                ReplyReceived(at=now, node=node, message=thing.message, answer=thing.answer)
            )

    def crash_app(self, down_s: float) -> None:
        """End the app, if there is one, and launch it again later."""
        if self.up and self.state.runs[RUN].active:
            self.loop.after(down_s, self.app.launch())

    def crash(self, down_s: float | None = None) -> None:
        """Lose all but the journal and the objects; come back later."""
        if not self.up:
            return
        self.up, self._life, self._wake_at = False, self._life + 1, None
        self.links.clear()
        self.app.crash()
        self.loop.after(self.loop.chance.uniform(0, 20) if down_s is None else down_s, self._start)

    def _start(self) -> None:
        snapshot = self.journal.latest_snapshot()
        after, data = snapshot or (0, None)
        self.state = restore(data, self.journal.read(after))
        assert state_to_json(self.state) == self.history[-1], "the journal gives another state"
        self.up = True
        if self.loop.chance.random() < 0.5:
            self.journal.snapshot(len(self.history) - 1, state_to_json(self.state))
        self.handle(ServerStarted(at=self.loop.now))


def thing_fields(hello: NodeConnected) -> dict[str, Any]:
    """Return what a node says of itself when it connects."""
    return {
        "node": hello.node,
        "session": hello.session,
        "capacity": hello.capacity,
        "held": hello.held,
    }


class App:
    """A server app of some rounds; what it has checkpointed outlives it."""

    def __init__(self, server: Server, world: World) -> None:
        self.server, self.world = server, world
        self.round = 0
        self.counted: Counter[str] = Counter()
        self.answers: dict[str, Answer] = {}
        self._got: dict[str, Answer] = {}
        self._asked: frozenset[str] = frozenset()
        self._life = 0

    def crash(self) -> None:
        """Lose what is not checkpointed."""
        self._life += 1
        self._got, self._asked = {}, frozenset()

    def launch(self) -> Callable[[], None]:
        """Return what starts the app, if it has not crashed by then."""
        self.crash()
        life = self._life
        return lambda: self._begin() if life == self._life else None

    def _begin(self) -> None:
        life = self._life
        self.server.handle(RunStarted(at=self.server.loop.now, run=RUN))
        if life == self._life:
            self._ask()

    def _ask(self) -> None:
        now, world = self.server.loop.now, self.world
        if self.round == world.rounds:
            self.server.handle(RunEnded(at=now, run=RUN, status="succeeded"))
            return
        body = Object(sha256(b"model %d" % self.round).hexdigest(), 1000)
        self.server.objects.add(body.hash)
        cohort = Seeds(self.round).child("cohort").python().sample(range(world.nodes), world.cohort)
        messages = tuple(
            Message(
                id=f"{self.round}-{node}-{n}",
                run=RUN,
                node=node,
                type="train",
                created_at=now,
                expires_at=now + world.ttl_s,
                body=body,
            )
            for node in cohort
            for n in range(world.tasks)
        )
        self._asked = frozenset(message.id for message in messages)
        self.server.handle(MessagesPushed(at=now, run=RUN, messages=messages))

    def notified(self, message: str, answer: Answer) -> None:
        """Take an answer; with the last of a round, checkpoint and go on."""
        if message not in self._asked:
            return
        self._got[message] = answer
        if len(self._got) < len(self._asked):
            return
        life = self._life
        self.server.loop.after(0.1, lambda: self._checkpoint() if life == self._life else None)

    def _checkpoint(self) -> None:
        if self._asked != self._got.keys() or not self._asked:
            return
        done, self._asked, life = self._got, frozenset(), self._life
        self.counted.update(done.keys())
        self.answers.update(done)
        self.round += 1
        self._got = {}
        released = MessagesReleased(at=self.server.loop.now, run=RUN, messages=tuple(done))
        self.server.handle(released)
        if life == self._life:
            self._ask()


class NodeModel:
    """A node: what it holds outlives it, its session does not."""

    def __init__(self, server: Server, number: int, world: World, sessions: count[int]) -> None:
        self.server, self.number, self.world = server, number, world
        self.held: dict[str, Answer | None] = {}
        self._sessions = sessions
        self._session = 0
        self._heard_at = 0.0
        self._life = 0
        self._up = True

    def start(self) -> None:
        """Go to work, with what is held from before."""
        self._up = True
        self._life += 1
        for message, answer in self.held.items():
            if answer is None:
                self._compute(message)
        self._connect()
        self._beat(self._life)

    def crash(self, down_s: float) -> None:
        """Lose the session and what was being computed; come back later."""
        if self._up:
            self._up, self._session, self._life = False, 0, self._life + 1
            self.server.loop.after(down_s, self.start)

    def _connect(self) -> None:
        self._session = next(self._sessions)
        self._heard_at = self.server.loop.now
        hello = NodeConnected(
            at=0.0,
            node=self.number,
            session=self._session,
            capacity=self.world.capacity,
            held=tuple(self.held),
        )
        self._send(hello)
        self._send_answers()

    def _send(self, thing: object) -> None:
        session = self._session

        def deliver(thing: Any) -> None:
            self.server.receive(self.number, lambda t: self._receive(session, t), session, thing)

        self.server.network.send(self.number, True, deliver, thing)

    def _send_answers(self) -> None:
        for message, answer in self.held.items():
            if answer is not None:
                self._send(ReplyReceived(at=0.0, node=self.number, message=message, answer=answer))

    def _beat(self, life: int) -> None:
        if life != self._life:
            return
        if self.server.loop.now - self._heard_at > _PATIENCE_S:
            self._connect()
        else:
            self._send(Heartbeat(at=0.0, session=self._session))
            self._send_answers()
        self.server.loop.after(_BEAT_S, lambda: self._beat(life))

    def _receive(self, session: int, thing: Any) -> None:
        if session != self._session:
            return
        self._heard_at = self.server.loop.now
        match thing:
            case SendTask(_, message):
                self._send(TaskAccepted(at=0.0, session=session, message=message.id))
                if message.id not in self.held:
                    self.held[message.id] = None
                    self._compute(message.id)
            case Ack(_, message) | CancelTask(_, message):
                self.held.pop(message, None)
            case CloseSession():
                self._session = 0
                self._connect_later(self._life)

    def _connect_later(self, life: int) -> None:
        def again() -> None:
            if life == self._life:
                self._connect()

        self.server.loop.after(self.server.loop.chance.uniform(0.5, 3), again)

    def _compute(self, message: str) -> None:
        life, seconds = self._life, self.server.loop.chance.uniform(0, self.world.compute_s)

        def done() -> None:
            if life == self._life and message in self.held:
                self.held[message] = answer_of(message)
                self._send_answers()

        self.server.loop.after(seconds, done)


def answer_of(message: str) -> Answer:
    """Return the one right answer to a message: an object for some, small content for others."""
    digest = sha256(message.encode())
    if digest.digest()[0] % 2:
        return Answer(object=Object(digest.hexdigest(), 500))
    return Answer(content=message.encode())
