"""Wrapper that lets a strategy learn from the sum of a cohort's updates, and from nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from umbel.base import (
    ConfigError,
    NotEnoughNodes,
    NotEnoughReplies,
    SecAggAborted,
    StateError,
    content_hash,
)
from umbel.records import (
    ArrayRecord,
    ConfigRecord,
    Error,
    ErrorCode,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from umbel.secagg import Plan, SecAggParameters, ServerSession, bits_for, choose_degree
from umbel.serverapp import Grid, Run, Strategy, causes
from umbel.updates import Aggregator, Mean, ModularSum, Total, UniformMean, WeightedMean

T = TypeVar("T")
Degree: TypeAlias = int | Literal["auto"] | None
Answers: TypeAlias = dict[int, Mapping[str, Any]]

RECORD = "secagg"
CLIP = 8.0
STAGE_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Neighbours:
    """Who shares masks with whom, and how many must stay to the end.

    Attributes
    ----------
    threshold : int, float or None
        So many clients of a neighbourhood, or such a part of it.
    degree : int, "auto" or None
        The number of neighbours of a client; ``None`` for all others.
    corrupt, dropout : float
        The parts of the cohort that ``"auto"`` reckons with.
    active : bool
        Whether clients compare what the server told them.
    """

    threshold: int | float | None
    degree: Degree
    corrupt: float
    dropout: float
    active: bool

    def parameters(self, cohort: int, length: int, bits: int) -> SecAggParameters:
        """Return the parameters of a session of a cohort of this size."""
        if self.degree == "auto":
            chosen = choose_degree(
                cohort, corrupt=self.corrupt, dropout=self.dropout, active=self.active
            )
            return SecAggParameters(chosen.threshold, length, bits, chosen.degree, self.active)
        degree = self.degree if self.degree is not None and self.degree < cohort - 1 else None
        threshold = 2 / 3 if self.threshold is None else self.threshold
        if isinstance(threshold, float):
            size = cohort if degree is None else degree + 1
            # Floating-point products overshoot whole numbers.
            threshold = max(2, math.ceil(threshold * size - 1e-9))
        return SecAggParameters(threshold, length, bits, degree, self.active)


@dataclass
class Session:
    """A round in progress.

    Attributes
    ----------
    server : ServerSession
        The protocol's state.
    grid : Grid
        Where the clients are.
    plan : Plan
        What is summed.
    arrays : ArrayRecord
        The model that was sent.
    failed_before : int
        How many failures the run had before it.
    cohort : int
        How many clients are in the roster.
    """

    server: ServerSession
    grid: Grid
    plan: Plan
    arrays: ArrayRecord
    failed_before: int
    cohort: int = 0

    @property
    def needed(self) -> int:
        """How many clients must be left at any time."""
        parameters, cohort = self.server.parameters, self.cohort or len(self.server.nodes)
        size = min(cohort, (parameters.degree or cohort) + 1)
        return -(-parameters.threshold * cohort // size)


class SecurelyAggregated(Strategy):
    """A strategy whose clients send masked updates; :func:`with_secagg` makes it.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    plan : Plan
        What is summed; a cohort chooses the ``bits`` where they are 0.
    neighbours : Neighbours
        Who shares masks with whom.
    minimum_cohort : int
        A smaller cohort is no round.
    stage_timeout_s : float
        How long a step waits for its answers.
    """

    def __init__(
        self,
        strategy: Strategy,
        plan: Callable[[int], Plan],
        neighbours: Neighbours,
        minimum_cohort: int,
        stage_timeout_s: float,
    ) -> None:
        self.inner = strategy
        self.plan = plan
        self.neighbours = neighbours
        self.minimum_cohort = minimum_cohort
        self.stage_timeout_s = stage_timeout_s
        self.min_completion = strategy.min_completion
        self.on_shortfall = strategy.on_shortfall
        self.max_repeats = strategy.max_repeats
        self.require_finite = strategy.require_finite
        self._session: Session | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._session = None
        messages = list(self._lent().configure_train(server_round, arrays, config, grid))
        if not messages:
            return []
        nodes = self._nodes(messages)
        plan = self.plan(len(nodes))
        content = _common(messages, plan.record)
        model = content.array_records[plan.record]
        length = plan.codec(len(nodes)).length(plan.origin(model.views()))
        parameters = self.neighbours.parameters(len(nodes), length, plan.bits)
        server = ServerSession(parameters, _name(grid.run), nodes)
        session = Session(server, grid, plan, model, len(grid.run.failures))
        self._session = session
        offered = {**plan.to_config(), **parameters.payload()}
        keys = self._ask(session, "advertise", dict.fromkeys(nodes, offered))
        roster = self._step(session, server.roster, keys)
        session.cohort = len(keys)
        shares = self._ask(session, "share", dict.fromkeys(sorted(keys), roster))
        relayed = self._step(session, server.relay, shares)
        train = []
        for message in messages:
            node = int(message.metadata.dst_node_id)
            if node in relayed:
                record = _record(session, "mask", relayed[node])
                message.content = RecordDict({**message.content, RECORD: record})
                train.append(message)
        return train

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        parameters = self._begun().server.parameters
        return ModularSum(parameters.length, parameters.bits)

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        session = self._begun()
        total = self._opened(session, value)
        plan, model = session.plan, session.arrays.views()
        codec = plan.codec(session.cohort)
        decoded = codec.decode(total, plan.origin(model))
        arrays, metrics = plan.split(decoded.arrays)
        for array in arrays.values():
            array.flags.writeable = False
        session.grid.run.emit(
            "secure_sum",
            round=server_round,
            asked=len(session.server.nodes),
            clients=value.count,
            threshold=session.server.parameters.threshold,
            degree=session.server.parameters.degree or session.cohort - 1,
            bits=codec.bits,
            error_max=codec.error_max(decoded.weight, value.count),
        )
        self._session = None
        mean = Mean(ArrayRecord(arrays), metrics, decoded.weight, value.count)
        return self._lent().finish_train(server_round, mean)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self._lent().configure_evaluate(server_round, arrays, config, grid)

    def evaluate_aggregator(self, server_round: int) -> Aggregator[Any]:
        return self._lent().evaluate_aggregator(server_round)

    def finish_evaluate(self, server_round: int, value: Any) -> MetricRecord | None:
        return self._lent().finish_evaluate(server_round, value)

    def replies_needed(self, cohort: int) -> int:
        if self._session is None:
            return self.inner.replies_needed(cohort)
        # Of all that were asked, not only of those that got as far as training.
        asked = len(self._session.server.nodes)
        return max(self._session.needed, self.inner.replies_needed(asked))

    def summary(self) -> str:
        return f"{self.inner.summary()} under secure aggregation"

    def state_dict(self) -> RecordDict:
        return self.inner.state_dict()

    def load_state_dict(self, state: RecordDict) -> None:
        self.inner.load_state_dict(state)

    def _lent(self) -> Strategy:
        """Return the inner strategy, which sees the round as this one does."""
        self.inner.run, self.inner.current_arrays = self.run, self.current_arrays
        return self.inner

    def _begun(self) -> Session:
        if self._session is None:
            raise StateError("a secure aggregation goes on that has not begun")
        return self._session

    def _nodes(self, messages: list[Message]) -> list[int]:
        nodes = [int(message.metadata.dst_node_id) for message in messages]
        if len(set(nodes)) < len(nodes):
            raise ConfigError(
                "a node is sent two messages, and has one place in a secure aggregation",
                hint="send one message to each node of the cohort",
            )
        if len(nodes) < self.minimum_cohort:
            raise NotEnoughNodes(
                f"the cohort has {len(nodes)} clients, and no sum of fewer than "
                f"{self.minimum_cohort} is to be opened",
                hint="raise fraction_train or min_train_nodes, or lower minimum_cohort",
            )
        return nodes

    def _ask(
        self, session: Session, stage: str, payloads: Mapping[int, Mapping[str, Any]]
    ) -> Answers:
        """Send a step of the protocol to some nodes; return what those answered that did."""
        run = session.grid.run
        run.begin_phase(f"secagg.{stage}", list(payloads))
        records: dict[int, ConfigRecord] = {}
        messages = []
        for node, payload in payloads.items():
            # What all are sent alike is one record.
            record = records.setdefault(id(payload), _record(session, stage, payload))
            message = Message(RecordDict({RECORD: record}), node, MessageType.TRAIN)
            message.metadata.group_id = f"{run.server_round}.{run.attempt}.{stage}"
            messages.append(message)
        answers: Answers = {}
        timeout = self.stage_timeout_s
        for reply in session.grid.send_and_receive(messages, timeout=timeout).each_once():
            node = int(reply.metadata.src_node_id)
            if not reply.has_content():
                continue
            record = reply.content.config_records.get(RECORD)
            if record is None:
                _fail(run, node, f"it answered step {stage!r} with no record {RECORD!r}. {_MOD}")
            else:
                answers[node] = record
        run.sort_phase_failures()
        return answers

    def _step(self, session: Session, step: Callable[[Answers], T], answers: Answers) -> T:
        """Take a step of the protocol, without the answers of clients that break it.

        Raises
        ------
        NotEnoughReplies
            Too few answers are left to go on.
        SecAggAborted
            The answers do not fit together, and no client alone is to blame.
        """
        while True:
            needed = max(session.needed, self.minimum_cohort)
            if len(answers) < needed:
                raise self._too_few(session, len(answers), needed)
            try:
                return step(answers)
            except SecAggAborted as error:
                node = error.context.get("node")
                if not isinstance(node, int) or node not in answers:
                    if "needed" in error.context:
                        raise self._too_few(session, len(answers), needed, error) from error
                    raise
                _fail(session.grid.run, node, error.message)
                del answers[node]

    def _opened(self, session: Session, value: Total) -> Any:
        """Return the sum without its masks."""
        run, server = session.grid.run, session.server
        failed = {failure.node_id for failure in run.phase_failures}
        survivors = [node for node in run.cohort if node not in failed]
        if len(survivors) != value.count or value.vector is None:
            raise StateError(f"{value.count} vectors were summed, of {len(survivors)} clients")
        run.sort_phase_failures()
        told = self._step(session, lambda known: server.survivors(known), dict.fromkeys(survivors, {}))
        asked = survivors
        if server.parameters.active:
            signed = self._ask(session, "consistency", dict.fromkeys(asked, told))
            told = self._step(session, server.signatures, signed)
            asked = sorted(signed)
        shares = self._ask(session, "unmask", dict.fromkeys(asked, told))
        total = np.require(value.vector, requirements=["C", "W"])
        return self._step(session, lambda known: server.unmask(known, total), shares)

    def _too_few(
        self, session: Session, left: int, needed: int, error: SecAggAborted | None = None
    ) -> NotEnoughReplies:
        run, asked = session.grid.run, len(session.server.nodes)
        step = run.phase.removeprefix("secagg.")
        told = causes(run.failures[session.failed_before :])
        return NotEnoughReplies(
            f"{left} of {asked} clients are left after step {step!r} of the secure aggregation, "
            f"and {needed} are needed"
            + (f": {error.message}" if error is not None else "")
            + (f"; {'; '.join(told)}" if told else ""),
            hint=f"mend the clients, or lower the threshold; {_MOD}",
            round=run.server_round,
            phase="train",
            replies=left,
            needed=needed,
        )


_MOD = "the client app needs mods=[umbel.clientapp.secagg_mod()]"


def _record(session: Session, stage: str, payload: Mapping[str, Any]) -> ConfigRecord:
    return ConfigRecord({"stage": stage, "session": session.server.session, **payload})


def _name(run: Run) -> bytes:
    """Return the id of a session: a run that is resumed asks under the same for the same."""
    place = json.dumps([run.run_id, run.start, run.server_round, run.attempt])
    return bytes.fromhex(content_hash([b"umbel-secagg-session", place.encode()]))


def _fail(run: Run, node: int, reason: str) -> None:
    code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    run.fail(node, Error(code, reason, kind=SecAggAborted.__name__))


def _common(messages: list[Message], record: str) -> RecordDict:
    """Return the content of the messages, if it is the same in all."""
    first = messages[0].content
    if record not in first.array_records:
        raise ConfigError(f"the messages carry no ArrayRecord {record!r} to start from")
    for message in messages[1:]:
        for name in {*first, *message.content}:
            ours, theirs = first.get(name), message.content.get(name)
            if not (ours is theirs or (type(ours) is type(theirs) and _same(ours, theirs))):
                raise ConfigError(
                    f"the clients of a cohort are sent different records {name!r}, so that one of "
                    "them could be told from the others by what comes of it",
                    hint="under secure aggregation all of a cohort get the same",
                )
    return first


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, ArrayRecord):
        return list(ours) == list(theirs) and all(ours[k] is theirs[k] for k in ours)
    return bool(dict(ours) == dict(theirs))
