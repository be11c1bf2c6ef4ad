"""What a strategy lets be summed unseen, and what of its messages all clients have alike."""

from __future__ import annotations

from typing import Any

from umbel.base import ConfigError
from umbel.records import ArrayRecord, Message
from umbel.serverapp import Strategy
from umbel.strategies.exampledp import TrainedAsAsked
from umbel.strategies.fedper import OnlyShared
from umbel.strategies.wrapper import check_can_be_wrapped
from umbel.updates import (
    Aggregator,
    Compressor,
    Mapped,
    OfUpdates,
    SharedRandomK,
    UniformMean,
    WeightedMean,
)


def summed(strategy: Strategy) -> tuple[str, tuple[str, ...]]:
    """Return the metric that weights a strategy's mean, and the patterns of arrays not in it.

    The metric is empty for equal weights.

    Raises
    ------
    ConfigError
        The strategy takes no weighted mean.
    """
    check_can_be_wrapped(strategy, "summed up without a look at them")
    aggregator: Aggregator[Any] = strategy.train_aggregator(1)
    personal: tuple[str, ...] = ()
    if isinstance(aggregator, Mapped) and isinstance(aggregator.function, TrainedAsAsked):
        aggregator = aggregator.inner  # secagg_mod looks at it, where it can be seen
    if isinstance(aggregator, Mapped):
        checks: object = aggregator.function
        if isinstance(checks, OnlyShared):
            aggregator, personal = aggregator.inner, checks.personal
    if isinstance(aggregator, OfUpdates):
        raise ConfigError(
            "codes cannot be expanded under masks, and there is only a weighted mean",
            hint="with_secagg(FedAvg(), ..., compressor=SharedRandomK(0.1)), without "
            "with_compression",
        )
    # Exactly these: what is derived from them may look at replies one by one.
    if type(aggregator) is UniformMean:
        return "", personal
    if type(aggregator) is WeightedMean:
        return aggregator.weighted_by, personal
    raise ConfigError(
        f"{type(strategy).__name__} folds its replies with {type(aggregator).__name__}, and "
        "under secure aggregation there is only a weighted mean",
        hint="take a strategy that averages, without train_metrics_aggr_fn",
    )


def fraction_of(compressor: Compressor | None) -> float:
    """Return the part of each array's entries that is summed.

    Raises
    ------
    ConfigError
        There is no sum of what the compressor makes.
    """
    if compressor is None:
        return 1.0
    if not isinstance(compressor, SharedRandomK):
        raise ConfigError(
            f"codes of {compressor!r} cannot be summed under masks: each has places, signs or a "
            "scale of its own",
            hint="take compressor=SharedRandomK(0.1), or bits=16",
        )
    return compressor.fraction


def common_model(messages: list[Message], record: str) -> ArrayRecord:
    """Return the model that the messages carry, if they all carry the same.

    Raises
    ------
    ConfigError
        They do not.
    """
    first = messages[0].content
    for message in messages[1:]:
        for name in {*first, *message.content}:
            if not _same(first.get(name), message.content.get(name)):
                raise ConfigError(
                    f"the clients of a cohort are sent different records {name!r}, so that one of "
                    "them could be told from the others by what comes of it",
                    hint="under secure aggregation all of a cohort get the same",
                )
    if record not in first.array_records:
        raise ConfigError(f"the messages carry no model in a record {record!r}")
    return first.array_records[record]


def _same(ours: Any, theirs: Any) -> bool:
    if ours is theirs:
        return True
    if type(ours) is not type(theirs) or list(ours) != list(theirs):
        return False
    if isinstance(ours, ArrayRecord):
        return all(ours[key] is theirs[key] for key in ours)
    return dict(ours) == dict(theirs)
