"""Wrapper that lets a strategy learn from the sum of a cohort's updates, and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

from umbel.base import ROUND_TIMEOUT_S, ConfigError, NotEnoughNodes, StateError, is_number
from umbel.privacy import positive, whole
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.secagg import SECAGG_RECORD, Plan, SecAggParameters, bits_for, choose_degree
from umbel.serverapp import Grid, Run, Strategy
from umbel.strategies.resolution import check_resolution, warn_if_coarse
from umbel.strategies.secagground import SecureRound
from umbel.strategies.summable import common_model, fraction_of, summed
from umbel.strategies.wrapper import Wrapper
from umbel.updates import (
    COMPRESSION_RECORD,
    Aggregator,
    Compressor,
    Mean,
    ModularSum,
    NDArray,
    cast_back,
    expanded,
)

Degree: TypeAlias = int | Literal["auto"] | None

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

    def __post_init__(self) -> None:
        for name, part in (("corrupt", self.corrupt), ("dropout", self.dropout)):
            if not is_number(part) or not 0 <= part < 1:
                raise ConfigError(f"{name} is a part of the cohort, in [0, 1), got {part!r}")
        threshold, degree = self.threshold, self.degree
        if degree == "auto":
            if threshold is not None:
                raise ConfigError(
                    "degree='auto' chooses the threshold too", hint="leave threshold out"
                )
            return
        if degree is not None:
            whole(degree, "degree", 2)
        if isinstance(threshold, float):
            positive(threshold, "threshold")
        elif threshold is not None:
            whole(threshold, "threshold", 2)
        problem = self.parameters(1000, 1, 32).problem(1000 if degree is None else degree + 1)
        if problem and not isinstance(threshold, int):
            raise ConfigError(f"threshold={threshold}: {problem}", hint="more than half, or active")

    def parameters(self, cohort: int, length: int, bits: int) -> SecAggParameters:
        """Return the parameters of a session of a cohort of this size.

        Raises
        ------
        ConfigError
            They keep nothing secret, or no graph does what was asked for.
        """
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


class SecurelyAggregated(Wrapper):
    """A strategy whose clients send masked updates; :func:`with_secagg` makes it.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    plan : Plan
        What is summed; with ``bits=0``, the cohort decides how long a number is.
    neighbours : Neighbours
        Who shares masks with whom.
    minimum_cohort : int
        A smaller cohort is no round.
    stage_timeout_s : float
        How many seconds a step waits for its answers.
    """

    replies_are: ClassVar[str] = "masked vectors"

    def __init__(
        self,
        strategy: Strategy,
        plan: Plan,
        neighbours: Neighbours,
        minimum_cohort: int,
        stage_timeout_s: float,
    ) -> None:
        super().__init__(strategy, "summed up without a look at them")
        self.plan = plan
        self.neighbours = neighbours
        self.minimum_cohort = whole(minimum_cohort, "minimum_cohort", 2)
        self.stage_timeout_s = positive(stage_timeout_s, "stage_timeout_s")
        self._round: SecureRound | None = None
        self._sent = ArrayRecord()
        self._plan = plan
        self._seed = 0
        self._is_looked_at = False
        """Whether a round has shown that numbers are fine enough; later updates are smaller."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._round = None
        with suppress(NotEnoughNodes):  # told below, with what it means here
            # After a restart of the server nodes come back one by one.
            grid.wait_for_nodes(self.minimum_cohort, ROUND_TIMEOUT_S)
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if not messages:
            return []
        nodes = self._nodes(messages)
        self._sent = common_model(messages, self.plan.record)
        self._plan, parameters, least = self.prepared(grid.run, len(nodes), self._sent)
        if self.plan.fraction < 1:
            self._seed = self.shared_seed(grid.run)
            seed = ConfigRecord({"seed": self._seed})
            for message in messages:
                message.content = RecordDict({**message.content, COMPRESSION_RECORD: seed})
        begun = SecureRound(grid, parameters, nodes, least, self.stage_timeout_s)
        self._round = begun
        dealt = begun.deal(self._plan.to_config())
        training = [m for m in messages if m.metadata.dst_node_id in dealt]
        for message in training:
            record = dealt[int(message.metadata.dst_node_id)]
            message.content = RecordDict({**message.content, SECAGG_RECORD: record})
        return training

    def prepared(
        self, run: Run, cohort: int, model: ArrayRecord
    ) -> tuple[Plan, SecAggParameters, int]:
        """Return what is summed, how, and over how many clients at least, for such a cohort."""
        plan = replace(self.plan, bits=self.plan.bits or bits_for(cohort))
        codec, views = plan.codec(cohort), model.views()
        if not self._is_looked_at:
            check_resolution(codec, plan.shared(views))
        length = codec.length(plan.origin(views))
        return plan, self.neighbours.parameters(cohort, length, plan.bits), self.minimum_cohort

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        parameters = self.begun().parameters
        return ModularSum(parameters.length, parameters.bits)

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        begun = self.begun()
        mean, error_max = self.mean_of(begun.opened(value), value.count, self._sent)
        if self.run is not None:
            self.run.emit(
                "secure_sum",
                round=server_round,
                asked=begun.asked,
                clients=value.count,
                threshold=begun.parameters.threshold,
                degree=begun.parameters.degree or begun.cohort - 1,
                bits=begun.parameters.bits,
                error_max=error_max,
            )
        self._round = None
        return super().finish_train(server_round, mean)

    def mean_of(self, total: NDArray, count: int, model: ArrayRecord) -> tuple[Mean, float]:
        """Return the mean that a sum over so many clients says, and how exact it is."""
        plan = self._plan
        codec = plan.codec(self.begun().cohort)
        decoded = codec.decode(total, plan.origin(model.views()))
        arrays, metrics = plan.split(decoded.arrays)
        steps = 2 if plan.rounds_by_chance else 1
        errors = {key: steps * codec.error_max(key, decoded.weight, count) for key in arrays}
        for key, code in plan.codes(model.views(), self._seed).items():
            before, values = model[key].view(), {"values": arrays[key]}
            flat = expanded(
                code, values, before.size, arrays[key].dtype, shrink=plan.error_feedback
            )
            after = before.astype(flat.dtype) + flat.reshape(before.shape)
            arrays[key] = cast_back(after, before.dtype)
            errors[key] *= 1 if plan.error_feedback else 1 + code.omega(before.size)
        if not self._is_looked_at and not plan.rounds_by_chance:
            warn_if_coarse(plan.shared(model.views()), arrays, errors)
        self._is_looked_at = True
        for array in arrays.values():
            array.flags.writeable = False
        mean = Mean(ArrayRecord(arrays), metrics, decoded.weight, count)
        return mean, max(errors.values(), default=0.0)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._round = None
        return super().configure_evaluate(server_round, arrays, config, grid)

    def replies_needed(self, cohort: int) -> int:
        if self._round is None:
            return super().replies_needed(cohort)
        # Of all that were asked, not only of those that got as far as training.
        return max(self._round.needed, super().replies_needed(self._round.asked))

    def summary(self) -> str:
        return f"{self.inner.summary()} under secure aggregation"

    def begun(self) -> SecureRound:
        """Return the secure aggregation in progress."""
        if self._round is None:
            raise StateError("a secure aggregation goes on that has not begun")
        return self._round

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


def with_secagg(
    strategy: Strategy,
    *,
    weight_max: float,
    clip: float | Mapping[str, float] = 8.0,
    threshold: int | float | None = None,
    degree: Degree = None,
    minimum_cohort: int = 3,
    bits: int | None = None,
    metrics: Mapping[str, float] | None = None,
    active: bool = True,
    corrupt: float = 0.1,
    dropout: float = 0.1,
    compressor: Compressor | None = None,
    error_feedback: bool = True,
    stage_timeout_s: float = STAGE_TIMEOUT_S,
) -> SecurelyAggregated:
    """Return a strategy that does the same without seeing any client's update.

    The client app has ``mods=[umbel.clientapp.secagg_mod()]``. The server gets vectors under masks
    that cancel in the cohort's sum (Bonawitz et al. 2017, arXiv:1611.04482; with a ``degree``, Bell
    et al. 2020, eprint 2020/704), and hands the weighted mean to the strategy. Any strategy will do
    that folds its replies into a ``Mean`` and does not look at them one by one. What clients report
    besides, the number of their examples included, stays with them. ``docs/secure-aggregation.md``
    says what this protects against, and what not.

    Parameters
    ----------
    strategy : Strategy
        What to wrap; it is used from here on through the wrapper alone.
    weight_max : float
        The largest weight that a client may have. The nearer to what they have, the more exact.
    clip : float or mapping of str to float, default=8.0
        The largest magnitude that a value of an update may have, by patterns of array names where
        it is a mapping. A client whose update goes beyond fails; nothing is cut off.
    threshold : int or float, optional
        So many clients of a neighbourhood, or such a part of it, must stay to the end: more than
        half with ``active``. Two thirds by default.
    degree : int, "auto" or None
        With how many others each client shares masks: all by default; ``"auto"`` chooses the
        fewest, and the threshold, by ``corrupt`` and ``dropout``.
    minimum_cohort : int, default=3
        A sum over fewer clients is not opened.
    bits : {16, 32, 64}, optional
        The size of a number; by default 32, and 64 for large cohorts. With 16, clients round by
        chance.
    metrics : mapping of str to float, optional
        Metrics whose mean is taken along, and the largest magnitude of each. Others are dropped.
    active : bool, default=True
        Whether clients compare, with signatures, what the server told them. Without, the server is
        trusted to follow the protocol.
    corrupt, dropout : float, default=0.1
        For ``degree="auto"``: the part of the cohort that may work with the server, and the part
        that may drop out.
    compressor : SharedRandomK, optional
        Clients send only so many of the entries, drawn anew in each round and for all of them the
        same; without, or of a fraction of 1, all. The client app needs no other mod for it.
    error_feedback : bool, default=True
        Whether clients keep the entries that were not drawn, and add them to later updates; without
        it, those that were are scaled up, so that the mean is right in every round.
    stage_timeout_s : float, default=600
        How many seconds each step before and after training waits for the clients.

    Raises
    ------
    ConfigError
        The strategy sees single replies or takes no mean, or an argument is out of its range.
        In a round: the parameters make no sense for the cohort, its nodes are sent different
        content, or ``clip`` is so large that every update would be rounded away.

    Examples
    --------
    >>> from umbel.strategies import FedAvg
    >>> with_secagg(FedAvg(min_train_nodes=5), weight_max=1000).summary()
    'FedAvg(fraction_train=1.0, fraction_evaluate=1.0, weighted by num-examples) under secure
    aggregation'
    """
    weighted_by, personal = summed(strategy)
    plan = Plan(
        clip=_bounds(clip, "clip") if isinstance(clip, Mapping) else {"*": clip},
        weight_max=weight_max,
        bits=0 if bits is None else bits,
        weighted_by=weighted_by,
        record=str(getattr(strategy, "arrayrecord_key", "arrays")),
        metrics=_bounds(metrics, "metrics"),
        personal=personal,
        fraction=fraction_of(compressor),
        error_feedback=error_feedback,
    )
    neighbours = Neighbours(threshold, degree, corrupt, dropout, active)
    made = SecurelyAggregated(strategy, plan, neighbours, minimum_cohort, stage_timeout_s)
    whole_plan = plan if bits is not None else replace(plan, bits=64)
    whole_plan.codec(minimum_cohort)  # raises if a bound makes no sense
    return made


def _bounds(bounds: object, name: str) -> dict[str, float]:
    """Return the bounds by name; whether they are numbers is seen where they are used."""
    if bounds is None:
        return {}
    if not isinstance(bounds, Mapping) or not all(isinstance(key, str) for key in bounds):
        raise ConfigError(
            f"{name} is a mapping from names to their largest magnitudes, got {bounds!r}",
            hint=f'{name}={{"loss": 10.0}}',
        )
    return dict(bounds)
