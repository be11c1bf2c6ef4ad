"""The owner's policy at work: around all that an app does, in the process where no app runs.

What a worker hands over is read once into this process's own memory, checked there, and written
anew. So it does not matter what the worker, or what it started, does to its files afterwards.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from umbel.base import (
    SYSTEM_CLOCK,
    Clock,
    PolicyRefused,
    ProtocolError,
    Scalar,
    content_hash,
    fresh_key,
    mapped,
    write_hashed,
)
from umbel.clientapp import (
    Account,
    Policy,
    PolicyRequest,
    check_budget,
    check_content,
    check_request,
    error_fields,
    message_content,
    normals_of,
    refusal,
    release_reply,
    settings_of_masks,
    told_failure,
)
from umbel.deployment.node.journal import Failure, Journal, Outcome
from umbel.deployment.node.ledger import PolicyLedger
from umbel.deployment.node.settings import NodeEvent, OnEvent
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ErrorCode, codec_of

T = TypeVar("T")

LEDGER_NAME = "policy-ledger.jsonl"

_TIMES_THE_MESSAGE = 4
"""How much larger than its message a reply may be where the policy does not say."""

_HEADER_MAX_BYTES = 4 * 1024 * 1024


class Guard:
    """Lets in and out what a policy allows, and keeps its ledger.

    Parameters
    ----------
    policy : Policy
        The owner's.
    journal : Journal
        Where replies are kept until they have left; opened by this process.
    folder : Path
        Of the node: the ledger lies there.
    on_event : callable
        Told of refusals, with what only the owner may know.
    clock : Clock
        By which the node opens and closes.

    Raises
    ------
    ConfigError, JournalCorrupt
        The ledger cannot be used.
    """

    def __init__(
        self,
        policy: Policy,
        journal: Journal,
        folder: Path,
        on_event: OnEvent,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.policy = policy
        self._journal = journal
        self._on_event = on_event
        self._clock = clock
        self._lock = Lock()  # replies of several runs are let out in threads
        self._ledger = PolicyLedger(folder / LEDGER_NAME)
        self._account = Account(policy)
        for entry in self._ledger.entries():
            self._account.replay(entry)
        self._refuse_what_is_older()

    def __str__(self) -> str:
        floor = self.policy.privacy
        if floor is None or floor.epsilon is None:
            return "a policy is in force"
        spent = self._account.epsilon()
        return (
            f"a policy is in force; of the budget of {floor.data_set!r}, ε = {floor.epsilon:g}, "
            f"{spent:.4g} is spent"
        )

    @property
    def node_config(self) -> dict[str, Scalar]:
        """What the policy has the app know in ``context.node_config``."""
        return settings_of_masks(self.policy)

    def close(self) -> None:
        """Let another process use the ledger."""
        self._ledger.close()

    def admit(self, task: wire.Task) -> None:
        """Count a message that has come; nothing of it is fetched yet.

        Raises
        ------
        PolicyRefused
            It may not be answered.
        """
        request = PolicyRequest(
            run_id=task.run.run_id,
            message_id=task.message_id,
            message_type=task.message_type,
            size_bytes=task.body.size_bytes + len(task.records),
            at=self._clock.now(),
        )
        with self._lock:
            check_request(self.policy, request, self._account)
            entry = self._account.admit(request.run_id, request.message_id, request.at)
            self._ledger.append(entry, durable=False)

    async def execute(
        self,
        task: wire.Task,
        body: Path | None,
        app: str,
        work: Callable[[], Coroutine[Any, Any, Outcome]],
    ) -> Outcome:
        """Have a task done if that is allowed, and return what may be told of it.

        Parameters
        ----------
        task, body
            The task, and the file with its arrays.
        app : str
            Whose part of the budget it spends.
        work : callable
            Does it. What it returns, and what it raises, is not to be trusted.
        """
        try:
            await _in_thread(self._check, task, body, app)
            outcome = await work()
            if outcome.failure is None:
                return await _in_thread(self._released, task, body, app, outcome)
            failure = outcome.failure
        except PolicyRefused as error:
            return self.refusal(task.run.run_id, task.message_id, error)
        except Exception as error:  # its text may hold what the app has chosen
            number, reason, kind, _ = error_fields(
                error, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, with_traceback=False
            )
            failure = Failure(number, kind or "", reason or "")
        ids = (task.run.run_id, task.message_id)
        self._on_event(NodeEvent("withheld", f"{failure.kind}: {failure.reason}", *ids))
        told = Failure(*told_failure(self.policy, failure.code, failure.kind, failure.reason))
        return Outcome(*ids, failure=told, policy=self.policy.digest)

    # ---- What is done in threads

    def _check(self, task: wire.Task, body: Path | None, app: str) -> None:
        with self._lock:
            check_budget(self.policy, app, task.message_type, self._account)
        arrays = None if body is None else mapped(body)
        content = message_content(arrays, task.records, task.codec)
        check_content(self.policy, task.message_type, content)

    def _released(self, task: wire.Task, body: Path | None, app: str, outcome: Outcome) -> Outcome:
        ids = (task.run.run_id, task.message_id)
        codec = codec_of(task.codec)
        message = message_content(_own_copy(task, body), task.records, task.codec)
        path = self._journal.reply_path(outcome)
        reply = codec.decode(self._own_copy_of_reply(path, task))
        released = release_reply(self.policy, message, reply, normals_of(fresh_key()))
        draft = path.with_suffix(".released")
        with draft.open("wb", buffering=0) as file:
            size, digest = write_hashed(file, codec.encode(released.content))
        with self._lock:
            # From here on it counts, though a crash before the journal's commit keeps it here.
            spent = released.noise_multipliers
            entry = self._account.close(*ids, app, spent, self._clock.now())
            self._ledger.append(entry, durable=bool(spent))
        os.replace(draft, path)
        has_state = bool(outcome.has_state)
        return Outcome(*ids, size, digest, None, has_state, self.policy.digest, task.codec)

    def _own_copy_of_reply(self, path: Path, task: wire.Task) -> bytes:
        limit = 0 if self.policy.arrays is None else self.policy.arrays.max_bytes
        if limit is None:
            limit = _TIMES_THE_MESSAGE * task.body.size_bytes
        limit += _HEADER_MAX_BYTES
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise refusal(
                self.policy, "arrays.max-bytes", f"a reply has at most {limit} bytes in all"
            )
        return data

    # ---- Outcomes

    def refusal(self, run_id: str, message_id: str, error: PolicyRefused) -> Outcome:
        """Return the outcome of a task that the policy refuses, and tell the owner why."""
        more = "; ".join(getattr(error, "__notes__", ()))
        text = f"{error.message}{f' ({more})' if more else ''}"
        self._on_event(NodeEvent("refused", text, run_id, message_id))
        code, reason, kind, _ = error_fields(error, ErrorCode.POLICY_REFUSED, with_traceback=False)
        failure = Failure(code, kind or "", reason or "")
        return Outcome(run_id, message_id, failure=failure, policy=self.policy.digest)

    def _refuse_what_is_older(self) -> None:
        """Refuse what has not left yet and was not let out under this policy."""
        for outcome in self._journal.done():
            if outcome.policy != self.policy.digest:
                error = refusal(self.policy, "policy", "the reply was made under other rules")
                self._journal.commit(self.refusal(outcome.run_id, outcome.message_id, error))


def _own_copy(task: wire.Task, body: Path | None) -> bytes | None:
    """Return the arrays of a message as the server sent them.

    An update is measured from these. Who could change the file that the app reads as well could
    send anything for a small update.
    """
    if body is None:
        return None
    data = body.read_bytes()
    if content_hash([data]) != task.body.hash:
        raise ProtocolError("the message was changed on this node", hint="distrust the app")
    return data


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Return what work returns that is done in a thread; if cancelled, after it is done."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
