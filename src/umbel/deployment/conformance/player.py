"""What the cases of the conformance kit share: sessions, tasks, and a look at the replies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from umbel.base import SYSTEM_CLOCK, NotFound, ProtocolError, UmbelError, content_hash, new_id
from umbel.deployment.conformance.server import ScriptedServer, Session
from umbel.deployment.judging import Verdict
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import DEFAULT_CODEC, ArrayRecord, Codec, ConfigRecord, MetricRecord, RecordDict

CONTENT_MAX_BYTES = 64 * 1024
_TTL_S = 3_600.0


class Player:
    """Plays the server against one client, one case after the other.

    Parameters
    ----------
    server : ScriptedServer
        Listens already.
    client_app : str
        What runs name as their client app; a client that has only one app may ignore it.
    codec : Codec
        In which contents travel.
    """

    def __init__(self, server: ScriptedServer, client_app: str, codec: Codec) -> None:
        self.server = server
        self.codec = codec
        self.objects = server.objects
        self._client_app = client_app
        self._session: Session | None = None
        self._given: set[str] = set()
        self._earlier: set[str] = set()

    # ---- Sessions

    async def session(self) -> Session:
        """Return the session that is there, or the client's next one, welcomed."""
        if self._session is None or self._session.ended.is_set():
            return await self.next_session()
        return self._session

    async def next_session(self, patience_s: float | None = None, **welcome: Any) -> Session:
        """Return the client's next session, welcomed; the fields change the usual welcome."""
        while True:
            session = await self.server.session(patience_s)
            if not session.ended.is_set():
                break
        who = {"node_id": 1, "software": "umbel conformance", "codec": self.codec.name}
        session.welcome(**(who | welcome))
        for name in set(session.hello.held) & self._earlier:
            session.send(cancel=wire.Cancel(message_id=name, reason="its case is over"))
        self._session = session
        return session

    async def reconnected(self, session: Session, **welcome: Any) -> Session:
        """Hang up, and return the session of the client that comes back."""
        session.close()
        return await self.next_session(**welcome)

    def hang_up(self) -> None:
        """End the session, so that the next case begins with a new one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def forget_case(self) -> None:
        """Begin another case: what comes of earlier ones counts no more."""
        self._earlier |= self._given
        self._given.clear()
        self.objects.cuts = self.objects.push_cuts = 0
        self.objects.gate.set()

    # ---- Tasks

    def train(
        self, arrays: dict[str, Any] | None = None, *, inline: bool = False, run_id: str = "run-1"
    ) -> wire.Task:
        """Return a task to add one to arrays, which lie in an object unless ``inline``."""
        content = RecordDict({"arrays": ArrayRecord(arrays or _ARRAYS)})
        records = RecordDict({"config": ConfigRecord({"lr": 0.5, "server-round": 1})})
        if inline:
            return self._task("train", {**content, **records}, run_id)
        body = self.objects.add(b"".join(self.codec.encode(content)))
        return self._task("train", dict(records), run_id, body)

    def query(self, action: str) -> wire.Task:
        """Return a task of type ``query.ACTION``."""
        return self._task(f"query.{action}", {"config": ConfigRecord({"a": 1})}, "run-1")

    def _task(
        self, kind: str, records: dict[str, Any], run_id: str, body: wire.Object | None = None
    ) -> wire.Task:
        task = wire.Task(
            message_id=new_id(),
            run=wire.RunInfo(
                run_id=run_id,
                client_app=self._client_app,
                app_name="conformance",
                app_version="1",
                run_config="{}",
            ),
            message_type=kind,
            group_id="1",
            created_at=SYSTEM_CLOCK.now(),
            ttl_s=_TTL_S,
            body=body,
            records=b"".join(self.codec.encode(RecordDict(records))),
            codec="" if self.codec.name == DEFAULT_CODEC else self.codec.name,
        )
        self._given.add(task.message_id)
        return task

    async def receive(self, session: Session, kind: str, task: wire.Task) -> Any:
        """Return the client's next message, which is to be of this kind and about this task."""
        while True:
            message = await session.next_message(f"{kind} for the task")
            got = message.WhichOneof("kind")
            if got not in ("accepted", "reply"):
                raise ProtocolError(f"it sent {got or 'an empty message'}, where {kind} comes next")
            body = getattr(message, got)
            if body.message_id in self._earlier:
                session.send(ack=wire.Ack(message_id=body.message_id))
                continue
            if (got, body.message_id) != (kind, task.message_id):
                whose = "this task" if body.message_id == task.message_id else "another task"
                raise ProtocolError(f"it sent {got} for {whose}, where {kind} comes next")
            return body

    async def give(self, session: Session, task: wire.Task) -> wire.Reply:
        """Give the client a task, and return its reply, not acknowledged yet."""
        session.send(task=task)
        await self.receive(session, "accepted", task)
        reply: wire.Reply = await self.receive(session, "reply", task)
        return reply

    async def answered(self, session: Session, task: wire.Task) -> wire.Reply:
        """Give the client a task; acknowledge its reply and return it."""
        reply = await self.give(session, task)
        self.acknowledge(session, task)
        return reply

    def acknowledge(self, session: Session, task: wire.Task) -> None:
        """Say that the reply is safe."""
        session.send(ack=wire.Ack(message_id=task.message_id))

    # ---- Replies

    def content(self, reply: wire.Reply) -> RecordDict:
        """Return what a reply holds.

        Raises
        ------
        ProtocolError
            It is a failure, too large for the stream, or names no object that was pushed.
        """
        outcome = reply.WhichOneof("outcome")
        if outcome == "failure":
            failure = reply.failure
            raise ProtocolError(f"it answered with a failure: {failure.kind}: {failure.reason}")
        if (reply.codec or DEFAULT_CODEC) != self.codec.name:
            raise ProtocolError(
                f"its reply is in the codec {reply.codec!r}, the task in {self.codec.name!r}"
            )
        if outcome == "content":
            if len(reply.content) > CONTENT_MAX_BYTES:
                raise ProtocolError(
                    f"{len(reply.content)} bytes came in the stream; more than "
                    f"{CONTENT_MAX_BYTES} are pushed as an object"
                )
            return self.codec.decode(reply.content)
        if outcome != "body":
            raise ProtocolError("its reply has no outcome")
        data = self.objects.complete.get(reply.body.hash)
        if data is None:
            raise ProtocolError("its reply names an object that it has not pushed")
        if content_hash([data]) != reply.body.hash or len(data) != reply.body.size_bytes:
            raise ProtocolError("its reply names an object by a wrong hash or size")
        return self.codec.decode(data)

    def check_trained(self, reply: wire.Reply, arrays: dict[str, Any] | None = None) -> None:
        """Check that a reply holds the arrays, with one added, and ``num-examples``.

        Raises
        ------
        ProtocolError
            It does not.
        """
        content = self.content(reply)
        sent = ArrayRecord(arrays or _ARRAYS)
        got, metrics = content.get("arrays"), content.get("metrics")
        if not isinstance(got, ArrayRecord) or not isinstance(metrics, MetricRecord):
            raise ProtocolError(f"its reply has the records {list(content)}, not arrays, metrics")
        if list(got) != list(sent):
            raise ProtocolError(f"its arrays are {list(got)}, not {list(sent)}, in this order")
        for name, array in sent.items():
            want, have = array.numpy(), got[name].numpy()
            if (want.dtype, want.shape) != (have.dtype, have.shape):
                raise ProtocolError(
                    f"array {name!r} is {have.dtype} of shape {have.shape}, "
                    f"not {want.dtype} of shape {want.shape}"
                )
            if not np.array_equal(want + want.dtype.type(1), have):
                raise ProtocolError(f"array {name!r} is not what was sent, with one added")
        examples = metrics.get("num-examples")
        if examples != 1 or type(examples) is not int:
            raise ProtocolError(f"num-examples is {examples!r}, not the integer 1")

    def check_failed(self, reply: wire.Reply, code: int) -> None:
        """Check that a reply is a failure with this code, and says why without a traceback.

        Raises
        ------
        ProtocolError
            It is not.
        """
        if reply.WhichOneof("outcome") != "failure":
            raise ProtocolError("it answered with content, where a failure was due")
        failure = reply.failure
        if failure.code != code:
            raise ProtocolError(f"the failure has code {failure.code}, not {code}")
        if not failure.reason or not failure.kind:
            raise ProtocolError("the failure has no kind or no reason")
        if "Traceback" in failure.reason or "\n    at " in failure.reason:
            raise ProtocolError("the failure's reason holds a traceback, which stays at the node")


_ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([-1.0, 0.5], np.float64),
}


def unique(size: int) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Return an array that the client cannot have seen, so that it lies in no cache."""
    array = np.arange(size, dtype=np.float32)
    array[0] = int(new_id()[:5], 16)
    return {"w": array}


class Case(NamedTuple):
    """Something that the wire asks of a client."""

    name: str
    title: str
    play: Callable[[Player], Awaitable[None]]


async def judged(player: Player, case: Case) -> Verdict:
    """Play a case and say what came of it."""
    player.forget_case()
    try:
        await case.play(player)
    except UmbelError as error:
        player.hang_up()
        return Verdict(case.name, case.title, error.message)
    return Verdict(case.name, case.title, "")


def chosen(cases: tuple[Case, ...], names: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases of these names; all of them if there are no names.

    Raises
    ------
    NotFound
        There is no such case.
    """
    known = {case.name: case for case in cases}
    for name in names:
        if name not in known:
            raise NotFound(f"there is no case {name!r}", hint=f"there are: {', '.join(known)}")
    return tuple(known[name] for name in names) if names else cases
