"""One secure aggregation as the server sees it: the protocol's steps over a grid."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from umbel.base import NotEnoughReplies, SecAggAborted, StateError, content_hash
from umbel.records import ConfigRecord, Error, ErrorCode, Message, MessageType, RecordDict
from umbel.secagg import SECAGG_RECORD, Payload, SecAggParameters, ServerSession
from umbel.serverapp import Grid, Run, failure_causes
from umbel.updates import ModularTotal, NDArray

T = TypeVar("T")
Answers = dict[int, Mapping[str, Any]]

_MOD = "the client app needs mods=[umbel.clientapp.secagg_mod()], as the outermost"


class SecureRound:
    """A session of the protocol: ``deal`` before clients train, ``opened`` after.

    A client that fails, or breaks the protocol, has dropped out: the run hears of it as of any
    failure, in a phase named after the step.

    Parameters
    ----------
    grid : Grid
        Where the clients are.
    parameters : SecAggParameters
        The session's.
    nodes : sequence of int
        Who is asked to take part.
    minimum_cohort : int
        With fewer clients, no sum is opened.
    timeout_s : float
        How long a step waits for its answers.
    """

    def __init__(
        self,
        grid: Grid,
        parameters: SecAggParameters,
        nodes: Sequence[int],
        minimum_cohort: int,
        timeout_s: float,
    ) -> None:
        self.parameters = parameters
        self.asked = len(nodes)
        self.cohort = 0
        self._grid = grid
        self._nodes = nodes
        self._minimum_cohort = minimum_cohort
        self._timeout_s = timeout_s
        self._session = _name(grid.run)
        self._server = ServerSession(parameters, self._session, nodes)
        self._failed_before = len(grid.run.failures)

    @property
    def run(self) -> Run:
        """The run that it belongs to."""
        return self._grid.run

    @property
    def needed(self) -> int:
        """How many clients must be left at any time."""
        known = self.parameters.quorum(self.cohort) if self.cohort else self.parameters.threshold
        return max(known, self._minimum_cohort)

    def deal(self, plan: Mapping[str, Any]) -> dict[int, ConfigRecord]:
        """Let the clients exchange keys and shares; return what each needs to mask its update.

        Parameters
        ----------
        plan : mapping
            What the clients are told about the vector.

        Raises
        ------
        NotEnoughReplies
            Too few clients answered.
        SecAggAborted
            What they answered does not fit together.
        """
        offer: Payload = {**plan, **self.parameters.payload()}
        keys = self._ask("advertise", dict.fromkeys(self._nodes, offer))
        roster = self._step(self._server.roster, keys)
        self.cohort = len(keys)
        shares = self._ask("share", dict.fromkeys(sorted(keys), roster))
        relayed = self._step(self._server.relay, shares)
        return {node: self._record("mask", payload) for node, payload in relayed.items()}

    def opened(self, total: ModularTotal) -> NDArray:
        """Return the sum of the masked vectors without their masks.

        Raises
        ------
        NotEnoughReplies
            Too few clients are left.
        SecAggAborted
            What they answered does not fit together: they had different models, for example.
        """
        run, server = self._grid.run, self._server
        failed = {failure.node_id for failure in run.phase_failures}
        survivors = [node for node in run.cohort if node not in failed]
        if total.vector is None or total.count != len(survivors):
            raise StateError(f"{total.count} vectors were summed, of {len(survivors)} clients")
        run.sort_phase_failures()
        present: Answers = {node: {} for node in survivors}
        told = self._step(server.survivors, present)
        if self.parameters.active:
            signed = self._ask("consistency", dict.fromkeys(survivors, told))
            told = self._step(server.signatures, signed)
            survivors = sorted(signed)
        shares = self._ask("unmask", dict.fromkeys(survivors, told))
        vector = np.require(total.vector, requirements=["C", "W"])
        return self._step(lambda answers: server.unmask(answers, vector), shares)

    def _record(self, stage: str, payload: Mapping[str, Any]) -> ConfigRecord:
        return ConfigRecord({"stage": stage, "session": self._session, **payload})

    def _ask(self, stage: str, payloads: Mapping[int, Mapping[str, Any]]) -> Answers:
        """Send a step to some nodes; return what those answered that did."""
        run = self._grid.run
        run.begin_phase(f"secagg.{stage}", list(payloads), MessageType.TRAIN)
        # What all are told alike is one record, so that it is encoded once.
        told = {id(payload): payload for payload in payloads.values()}
        records = {key: self._record(stage, payload) for key, payload in told.items()}
        messages = []
        for node, payload in payloads.items():
            content = RecordDict({SECAGG_RECORD: records[id(payload)]})
            message = Message(content, node, MessageType.TRAIN)
            message.metadata.group_id = f"{run.server_round}.{run.attempt}.{stage}"
            messages.append(message)
        answers: Answers = {}
        replies = self._grid.send_and_receive(messages, timeout=self._timeout_s)
        for reply in replies.each_once():
            node = int(reply.metadata.src_node_id)
            if reply.has_content():
                record = reply.content.config_records.get(SECAGG_RECORD)
                if record is None:
                    self._fail(node, f"it answered step {stage!r} with something else: {_MOD}")
                else:
                    answers[node] = record
        run.sort_phase_failures()
        return answers

    def _step(self, step: Callable[[Answers], T], answers: Answers) -> T:
        """Take a step of the protocol, without the answers of clients that break it."""
        while True:
            if len(answers) < self.needed:
                raise self._too_few(len(answers), self.needed)
            try:
                return step(answers)
            except SecAggAborted as error:
                if "needed" in error.context:  # enough in all, but not around each of them
                    raise self._too_few(len(answers), self.needed, error.message) from error
                node = error.context.get("node")
                if not isinstance(node, int) or node not in answers:
                    raise
                self._fail(node, error.message)
                del answers[node]

    def _fail(self, node: int, reason: str) -> None:
        code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
        self._grid.run.fail(node, Error(code, reason, kind=SecAggAborted.__name__))

    def _too_few(self, left: int, needed: int, cause: str = "") -> NotEnoughReplies:
        run = self._grid.run
        told = [f"but {cause}" if cause else f"and {needed} are needed"]
        told += failure_causes(run.failures[self._failed_before :])
        return NotEnoughReplies(
            f"{left} of {self.asked} clients are left after step "
            f"{run.phase.removeprefix('secagg.')!r} of the secure aggregation, {'; '.join(told)}",
            hint=f"mend the clients, or lower the threshold; {_MOD}",
            round=run.server_round,
            phase="train",
            replies=left,
            needed=needed,
        )


def _name(run: Run) -> bytes:
    """Return the id of a session: a run that is resumed asks for the same under the same."""
    place = json.dumps([run.run_id, run.start, run.server_round, run.attempt])
    return bytes.fromhex(content_hash([b"umbel secagg session", place.encode()]))
