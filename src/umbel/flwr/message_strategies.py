"""The strategies of the Message API: Umbel's, with Flower's answers to what goes wrong.

A reply that cannot be used is left out, a round in which none came leaves the model as it is, and
nodes are drawn with the module ``random``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from logging import INFO
from typing import Any

from umbel import serverapp, strategies
from umbel.base import ROUND_TIMEOUT_S, Seeds, global_sample
from umbel.flwr.logs import log
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid
from umbel.updates import WeightedMean, fold

ADOPTED: dict[str, tuple[str, ...]] = {
    "FedAvg": (),
    "FedAvgM": (),
    "FedAdagrad": ("eta_l",),
    "FedAdam": ("eta_l",),
    "FedYogi": ("eta_l",),
    "FedProx": (),
    "FedMedian": (),
    "FedTrimmedAvg": (),
    "FedXgbBagging": (),
    "FedXgbCyclic": (),
    "QFedAvg": (),
    "Krum": (),
    "MultiKrum": (),
    "Bulyan": (),
}
"""Strategies of ``umbel.strategies`` that are served under their own names, and the arguments that
are taken and not used, as in Flower."""


class Strategy(serverapp.Strategy):
    """The base of strategies: a phase in which too few replies came is skipped."""

    on_shortfall = "skip"


class Adopted(Strategy):
    """Makes a strategy of Umbel's behave as apps of Flower expect."""

    unused: tuple[str, ...] = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        for name in self.unused:
            options.pop(name, None)
        super().__init__(*args, **{"on_shortfall": "skip"} | options)

    def sampler(self, message_type: str) -> serverapp.Sampler | None:
        chosen = super().sampler(message_type)
        if not isinstance(chosen, serverapp.FractionSampler):
            return chosen
        limits = chosen

        def sample(grid: Grid, seeds: Seeds) -> Sequence[int]:
            if limits.fraction == 0:
                return []
            count = int(len(grid.get_node_ids()) * limits.fraction)
            size = max(count, limits.min_nodes)
            return sample_nodes(grid, limits.min_available, size)[0]

        return sample

    def _construct_messages(
        self, record: RecordDict, node_ids: Iterable[int], message_type: str
    ) -> list[Message]:
        """Return one message a node with this content; overrides of ``configure_*`` call it."""
        return [Message(RecordDict(record), int(node), message_type) for node in node_ids]


def adopt(name: str) -> type[Any]:
    """Return a strategy of Umbel's, adapted."""
    own = getattr(strategies, name)
    namespace = {
        "unused": ADOPTED[name],
        "__doc__": own.__doc__,
        "__module__": __name__,
        "__qualname__": name,
    }
    return type(name, (Adopted, own), namespace)


def __getattr__(name: str) -> Any:
    if name not in ADOPTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = adopted = adopt(name)
    return adopted


def sample_nodes(
    grid: Grid, min_available_nodes: int, sample_size: int
) -> tuple[list[int], list[int]]:
    """Return nodes drawn without replacement, and all that are connected.

    Raises
    ------
    NotEnoughNodes
        Too few are connected.
    """
    least = max(min_available_nodes, sample_size)
    nodes = list(grid.wait_for_nodes(least, ROUND_TIMEOUT_S))
    return global_sample(nodes, sample_size), nodes


def aggregate_arrayrecords(records: list[RecordDict], weighting_metric_name: str) -> ArrayRecord:
    """Return the weighted mean of the array records of replies' contents."""
    return _mean(records, WeightedMean(weighting_metric_name)).arrays or ArrayRecord()


def aggregate_metricrecords(records: list[RecordDict], weighting_metric_name: str) -> MetricRecord:
    """Return the weighted mean of the metric records of replies' contents."""
    mean: MetricRecord = _mean(
        records, WeightedMean(weighting_metric_name, with_arrays=False)
    ).metrics
    return mean


def _mean(records: list[RecordDict], mean: WeightedMean) -> Any:
    total = fold(mean, records, len(records))
    return mean.finish(mean.zero() if total is None else total)


def log_strategy_start_info(
    num_rounds: int,
    arrays: ArrayRecord,
    train_config: ConfigRecord | None,
    evaluate_config: ConfigRecord | None,
) -> None:
    """Log what a strategy is about to do."""
    log(INFO, "rounds: %d, model: %.2f MB", num_rounds, arrays.count_bytes() / 1e6)
    log(INFO, "train config: %s", dict(train_config or {}))
    log(INFO, "evaluate config: %s", dict(evaluate_config or {}))


MetricsAggrFn = Callable[[list[RecordDict], str], MetricRecord]
