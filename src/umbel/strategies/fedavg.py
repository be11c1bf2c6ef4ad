"""FedAvg: the weighted mean of the clients' models, and the base of its family."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict

import numpy as np

from umbel.base import AggregationError, ConfigError, is_number, is_whole_number
from umbel.records import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from umbel.serverapp import FractionSampler, Grid, OnShortfall, Sampler, Strategy
from umbel.updates import (
    BATCH_STATISTICS,
    Aggregator,
    Both,
    Collect,
    Mean,
    State,
    Transform,
    WeightedMean,
    cast_back,
    checked_patterns,
    is_whole,
    matches,
    pack_state,
    same_layout,
    sum_dtype,
    unpack_state,
)

MetricsAggrFn = Callable[[list[RecordDict], str], MetricRecord]
"""``f(replies without their arrays, name of the weight)`` gives the cohort's metrics."""


class FedAvgOptions(TypedDict, total=False):
    """The keyword arguments of :class:`FedAvg`, for strategies that pass them on."""

    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_evaluate_nodes: int
    min_available_nodes: int
    weighted_by_key: str
    arrayrecord_key: str
    configrecord_key: str
    train_metrics_aggr_fn: MetricsAggrFn | None
    evaluate_metrics_aggr_fn: MetricsAggrFn | None
    train_sampler: Sampler | None
    evaluate_sampler: Sampler | None
    averaged_keys: Sequence[str]
    require_finite: bool
    min_completion: int | float
    on_shortfall: OnShortfall
    max_repeats: int


class FedAvg(Strategy):
    """Federated averaging: ``x <- sum_k (n_k / n) x_k``.

    McMahan et al. 2017, arXiv:1602.05629, algorithm 1. With a ``server_optimizer`` the mean update
    ``mean - x`` goes through it and the outcome is added to ``x``: Reddi et al. 2021,
    arXiv:2003.00295, algorithm 1. A coordinate whose update the optimizer leaves as it is takes the
    mean itself, so that the identity is plain FedAvg, bit for bit.

    Parameters
    ----------
    fraction_train, fraction_evaluate : float, default=1.0
        The part of the nodes that takes part in a round, in ``[0, 1]``; 0 leaves the phase out. It
        and the three numbers below are read anew in every round, so that an override can change
        them.
    min_train_nodes, min_evaluate_nodes : int, default=2
        At least so many take part.
    min_available_nodes : int, default=2
        At least so many must be connected.
    weighted_by_key : str, default="num-examples"
        The metric that weights a reply.
    arrayrecord_key, configrecord_key : str
        The names of the two records in a message.
    train_metrics_aggr_fn, evaluate_metrics_aggr_fn : callable, optional
        ``f(replies without arrays, weighted_by_key) -> MetricRecord`` instead of the weighted mean.
    train_sampler, evaluate_sampler : callable, optional
        ``sampler(grid, seeds) -> node ids`` instead of a uniform fraction.
    server_optimizer : Transform, optional
        What is done to the mean update; ``None`` takes the mean as it is, bit for bit.
    averaged_keys : sequence of str
        Patterns of array names that take the plain mean whatever the server optimizer; by default
        the statistics of batch normalisation, where a variance must not turn negative. Whole
        numbers always do.
    require_finite : bool, default=True
        Reject replies that hold NaN or infinity, and end the run if the new model does.
    min_completion, on_shortfall, max_repeats
        See :class:`umbel.serverapp.Strategy`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> FedAvg(fraction_train=0.1, min_completion=0.8).summary()
    'FedAvg(fraction_train=0.1, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = "num-examples",
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
        train_metrics_aggr_fn: MetricsAggrFn | None = None,
        evaluate_metrics_aggr_fn: MetricsAggrFn | None = None,
        *,
        train_sampler: Sampler | None = None,
        evaluate_sampler: Sampler | None = None,
        server_optimizer: Transform | None = None,
        averaged_keys: Sequence[str] = BATCH_STATISTICS,
        require_finite: bool = True,
        min_completion: int | float = 1,
        on_shortfall: OnShortfall = "end",
        max_repeats: int = 3,
    ) -> None:
        if isinstance(min_completion, float) and not 0 < min_completion <= 1:
            raise ConfigError(
                f"min_completion={min_completion} is not a part of a cohort",
                hint="give a float in (0, 1], or an int for a number of replies",
            )
        numbers = is_number(min_completion) and is_whole_number(max_repeats)
        if not numbers or min_completion < 0 or max_repeats < 0:
            raise ConfigError(
                "min_completion and max_repeats are numbers, not negative, got "
                f"{min_completion!r} and {max_repeats!r}"
            )
        if on_shortfall not in ("end", "repeat", "skip"):
            raise ConfigError(f"on_shortfall is 'end', 'repeat' or 'skip', got {on_shortfall!r}")
        for name, sampler in (("train", train_sampler), ("evaluate", evaluate_sampler)):
            if sampler is not None and not callable(sampler):
                raise ConfigError(f"{name}_sampler is not a function of (grid, seeds): {sampler!r}")
        if server_optimizer is not None and not isinstance(server_optimizer, Transform):
            raise ConfigError(
                f"server_optimizer is a {type(server_optimizer).__name__}, not a Transform",
                hint="take one of umbel.updates, for instance momentum(0.9)",
            )
        self.fraction_train = fraction_train
        self.fraction_evaluate = fraction_evaluate
        self.min_train_nodes = min_train_nodes
        self.min_evaluate_nodes = min_evaluate_nodes
        self.min_available_nodes = min_available_nodes
        self.weighted_by_key = weighted_by_key
        self.arrayrecord_key = arrayrecord_key
        self.configrecord_key = configrecord_key
        self.train_metrics_aggr_fn = train_metrics_aggr_fn
        self.evaluate_metrics_aggr_fn = evaluate_metrics_aggr_fn
        self.train_sampler = train_sampler
        self.evaluate_sampler = evaluate_sampler
        self.server_optimizer = server_optimizer
        self.averaged_keys = checked_patterns(averaged_keys, "averaged_keys")
        self.require_finite = require_finite
        self.min_completion = min_completion
        self.on_shortfall = on_shortfall
        self.max_repeats = max_repeats
        self._optimizer_state: State | None = None
        for message_type in (MessageType.TRAIN, MessageType.EVALUATE):
            self.sampler(message_type)  # raises if a parameter is out of its range

    def summary(self) -> str:
        parts = ", ".join(
            f"fraction_{name}={fraction}" if sampler is None else f"{name}_sampler={sampler!r}"
            for name, fraction, sampler in (
                ("train", self.fraction_train, self.train_sampler),
                ("evaluate", self.fraction_evaluate, self.evaluate_sampler),
            )
        )
        return f"{type(self).__name__}({parts}, weighted by {self.weighted_by_key})"

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.current_arrays = arrays
        return self._messages(MessageType.TRAIN, server_round, arrays, config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self._messages(MessageType.EVALUATE, server_round, arrays, config, grid)

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        shapes = {key: array.shape for key, array in self.current_arrays.items()}
        mean = WeightedMean(self.weighted_by_key, shapes=shapes, require_finite=self.require_finite)
        return mean if self.train_metrics_aggr_fn is None else Both(mean, Collect())

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        mean, metrics = self._metrics(value, self.train_metrics_aggr_fn)
        if mean.arrays is None or self.server_optimizer is None:
            return mean.arrays, metrics
        return self._server_step(self.server_optimizer, mean.arrays), metrics

    def evaluate_aggregator(self, server_round: int) -> Aggregator[Any]:
        mean = WeightedMean(self.weighted_by_key, with_arrays=False)
        return mean if self.evaluate_metrics_aggr_fn is None else Both(mean, Collect())

    def finish_evaluate(self, server_round: int, value: Any) -> MetricRecord | None:
        return self._metrics(value, self.evaluate_metrics_aggr_fn)[1]

    def sampler(self, message_type: str) -> Sampler:
        if message_type == MessageType.TRAIN:
            own, fraction, least = self.train_sampler, self.fraction_train, self.min_train_nodes
        else:
            own, fraction = self.evaluate_sampler, self.fraction_evaluate
            least = self.min_evaluate_nodes
        return own or FractionSampler(fraction, least, self.min_available_nodes)

    def state_dict(self) -> RecordDict:
        return pack_state(self._optimizer_state or {})

    def load_state_dict(self, state: RecordDict) -> None:
        loaded = unpack_state(state) or None
        optimizer = self.server_optimizer
        if loaded is not None and not same_layout(loaded, optimizer.init({}) if optimizer else {}):
            raise ConfigError(
                f"the state {sorted(state)} is not one of {self.summary()}",
                hint="load it into the kind of strategy that it came from",
            )
        self._optimizer_state = loaded

    def _messages(
        self,
        message_type: str,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> list[Message]:
        seeds = self.drawing_seeds(grid.run, server_round, message_type)
        nodes = self.sampler(message_type)(grid, seeds)
        content = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        # The records are shared, so that they are sent once; the dictionary is each message's own.
        return [Message(RecordDict(content), int(node), message_type) for node in nodes]

    def _metrics(self, value: Any, aggregate: MetricsAggrFn | None) -> tuple[Mean, MetricRecord]:
        if aggregate is None:
            mean: Mean = value
            return mean, mean.metrics
        mean, replies = value
        return mean, aggregate(replies, self.weighted_by_key)

    def _server_step(self, optimizer: Transform, mean: ArrayRecord) -> ArrayRecord:
        """Return the global model after one step of the server optimizer."""
        current, target = self.current_arrays.views(), mean.views()
        if {k: v.shape for k, v in current.items()} != {k: v.shape for k, v in target.items()}:
            raise AggregationError(
                "the clients' arrays do not match the global model, so there is no update",
                hint="a server optimizer needs replies with the keys and shapes that were sent",
            )
        update = {
            key: np.subtract(target[key], value, dtype=sum_dtype(value.dtype), casting="unsafe")
            for key, value in current.items()
            if self._is_optimized(key, value)
        }
        if self._optimizer_state is None:
            self._optimizer_state = optimizer.init(update)
        step, self._optimizer_state = optimizer.apply(update, self._optimizer_state)
        after = dict(target)
        for key, change in step.items():
            value = current[key]
            moved = cast_back(np.asarray(value.astype(change.dtype) + change), value.dtype)
            # Where the optimizer changed nothing the mean stands: x + (mean - x) is not the mean.
            after[key] = np.where(change == update[key], target[key].astype(value.dtype), moved)
            after[key].flags.writeable = False
        return ArrayRecord(after)

    def _is_optimized(self, key: str, value: np.ndarray[Any, Any]) -> bool:
        return not is_whole(value.dtype) and not matches(key, self.averaged_keys)
