"""SecAgg and SecAgg+ as workflows and mods of the older API, over ``umbel.strategies.with_secagg``.

What travels is as there: the update, in fixed point that is never cut off, under masks whose seeds
are 256 bits long. A client's metrics stay with it, unless the workflow names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from logging import INFO, WARNING
from typing import Any

from umbel.base import (
    ROUND_TIMEOUT_S,
    SYSTEM_CLOCK,
    ConfigError,
    NotEnoughNodes,
    NotEnoughReplies,
    RoundError,
    SecAggAborted,
)
from umbel.clientapp import Handler
from umbel.clientapp import secagg_mod as make_mod
from umbel.flwr.instructions import OK, FitIns, FitRes
from umbel.flwr.logs import log
from umbel.flwr.managers import ClientProxy, GridProxy
from umbel.flwr.old_dp import Around, Private
from umbel.flwr.old_strategy import Strategy
from umbel.flwr.parameters import Parameters
from umbel.flwr.server_app import LegacyContext
from umbel.flwr.workflows import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from umbel.privacy import AdaptiveBound
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from umbel.secagg import bits_for
from umbel.serverapp import Grid, failure_causes
from umbel.serverapp import Strategy as RoundStrategy
from umbel.strategies import SecurelyAggregated, with_secagg
from umbel.updates import Aggregator, Mean, UniformMean, WeightedMean

MODEL = "fitins.parameters"
WEIGHT = "num_examples"
_SECURE = make_mod()

Asked = list[tuple[ClientProxy, FitIns]]


def secaggplus_mod(msg: Message, ctxt: Context, call_next: Handler) -> Message:
    """Let a trained model leave only as part of a cohort's sum.

    The server's side is ``SecAggPlusWorkflow``. Put it before all other mods. See
    :func:`umbel.clientapp.secagg_mod`.
    """

    def train(message: Message, context: Context) -> Message:
        reply = call_next(message, context)
        return Message(_flat(reply.content), reply_to=message) if reply.has_content() else reply

    handler = train if msg.metadata.message_type == "train" else call_next
    return _SECURE(msg, ctxt, handler)


def secagg_mod(msg: Message, ctxt: Context, call_next: Handler) -> Message:
    """Let a trained model leave only as part of a cohort's sum; see :func:`secaggplus_mod`."""
    return secaggplus_mod(msg, ctxt, call_next)


def _flat(content: RecordDict) -> RecordDict:
    """Return the answer of a client of the older API as a model and numbers."""
    numbers: dict[str, Any] = {
        name: float(value)
        for name, value in content.config_records.get("fitres.metrics", ConfigRecord()).items()
        if isinstance(value, int | float)
    }
    weights = content.metric_records.get("fitres.num_examples", MetricRecord())
    arrays = content.array_records.get("fitres.parameters", ArrayRecord())
    return RecordDict({MODEL: arrays, "metrics": MetricRecord(numbers | dict(weights))})


class _Cohort(RoundStrategy):
    """One round of training by the clients that a strategy of the older API has chosen."""

    arrayrecord_key = MODEL

    def __init__(self, asked: Asked, group_id: int, *, is_weighted: bool) -> None:
        self._asked = asked
        self._group_id = group_id
        self._is_weighted = is_weighted

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        proxies = [(proxy, ins) for proxy, ins in self._asked if isinstance(proxy, GridProxy)]
        if len(proxies) < len(self._asked):
            raise ConfigError(
                "under secure aggregation, clients are nodes of the grid",
                hint="leave the choice of clients to a SimpleClientManager",
            )
        # One content for all, so that its arrays are sent once.
        made = {id(ins): proxy.message(ins, self._group_id).content for proxy, ins in proxies}
        group = str(self._group_id)
        return [
            Message(RecordDict(made[id(ins)]), proxy.node_id, "train", group_id=group)
            for proxy, ins in proxies
        ]

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return ()

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        return WeightedMean(WEIGHT) if self._is_weighted else UniformMean(MODEL)

    def finish_train(
        self, server_round: int, value: Mean
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        weight = {WEIGHT: value.weight if self._is_weighted else float(value.count)}
        return value.arrays, MetricRecord({**value.metrics, **weight})


class SecAggPlusWorkflow:
    """A round of training in which the server sees the sum of the updates alone.

    For ``DefaultWorkflow(fit_workflow=...)``; the client app has ``mods=[secaggplus_mod]``.
    ``Strategy.aggregate_fit`` is handed the mean in place of each client's model. With a wrapper
    for differential privacy whose clients clip, each client counts the same.

    Parameters
    ----------
    num_shares : int or float
        Into how many shares a key is divided: a client's and its neighbours'. As in Flower, even
        numbers are raised by one. A float is a part of the cohort, 1.0 all of it.
    reconstruction_threshold : int or float
        How many of them, or which part, open it. More than half of them, whatever is given: with
        fewer, a server could open both keys of a client.
    max_weight : float, default=1000
        The largest ``num_examples``. A client that has more fails.
    clipping_range : float, default=8
        The largest magnitude of a value of an update. A client that goes beyond fails; in Flower,
        it is values of the model, and they are cut off.
    quantization_range : int, default=2**22
        Into so many steps, or more, the range of a value is divided.
    modulus_range : int, default=2**32
        Checked as in Flower; the modulus is the least of 2**16, 2**32 and 2**64 in which a sum of
        such steps over the cohort does not overflow.
    timeout : float, optional
        Seconds that each step waits; an hour by default.
    metrics : mapping of str to float, optional
        Metrics of training whose mean is taken along, and the largest magnitude of each. Not in
        Flower, which sends each client's metrics in the clear.

    Raises
    ------
    ConfigError
        An argument is out of its range.
    """

    def __init__(
        self,
        num_shares: int | float,
        reconstruction_threshold: int | float,
        *,
        max_weight: float = 1000.0,
        clipping_range: float = 8.0,
        quantization_range: int = 4194304,
        modulus_range: int = 4294967296,
        timeout: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        if not (num_shares == 1 or (isinstance(num_shares, float) and num_shares > 0)) and (
            num_shares <= 2
        ):
            raise ConfigError(
                f"num_shares={num_shares}", hint="more than 2, or a part of the cohort as a float"
            )
        if not reconstruction_threshold > 0:
            raise ConfigError(f"reconstruction_threshold={reconstruction_threshold}")
        is_power = modulus_range > 0 and modulus_range & (modulus_range - 1) == 0
        if not (0 < quantization_range < modulus_range <= 1 << 32 and is_power):
            raise ConfigError(
                f"quantization_range={quantization_range}, modulus_range={modulus_range}",
                hint="the modulus is a power of two, at most 2**32, above the range",
            )
        self.num_shares = float(num_shares) if num_shares == 1 else num_shares
        self.reconstruction_threshold = (
            1.0 if reconstruction_threshold == 1 else reconstruction_threshold
        )
        self.max_weight = max_weight
        self.clipping_range = clipping_range
        self.quantization_range = quantization_range
        self.modulus_range = modulus_range
        self.timeout = timeout
        self.metrics = dict(metrics or {})
        self._said: set[str] = set()
        self._secured(_Cohort([], 0, is_weighted=True), 100)  # raises

    def __call__(self, grid: Grid, context: LegacyContext) -> None:
        """Run the training of one round; the new model is then in the context's state.

        A round that too few clients saw to the end, or that was aborted, leaves the model.
        """
        settings: Any = context.state.config_records[MAIN_CONFIGS_RECORD]
        server_round = int(settings[Key.CURRENT_ROUND])
        model = context.state.array_records[MAIN_PARAMS_RECORD]
        strategy, manager = context.strategy, context.client_manager
        if strategy is None:
            raise ConfigError("the context has no strategy", hint="LegacyContext(strategy=...)")
        parameters = Parameters.from_record(model)
        asked = list(strategy.configure_fit(server_round, parameters, manager))
        if not asked:
            log(INFO, "round %d: no client trains", server_round)
            return
        is_weighted = not _is_private(strategy)
        cohort = _Cohort(asked, server_round, is_weighted=is_weighted)
        try:
            results, failures = self._summed(grid, cohort, asked, server_round)
        except (NotEnoughReplies, NotEnoughNodes, SecAggAborted) as error:
            log(WARNING, "round %d keeps the model: %s", server_round, error)
            return
        with _without_metrics(strategy, bool(self.metrics), self._say):
            new, metrics = strategy.aggregate_fit(server_round, results, failures)
        context.history.add_metrics_distributed_fit(server_round, metrics)
        if new is not None:
            context.state[MAIN_PARAMS_RECORD] = new.to_record()

    def _summed(
        self, grid: Grid, cohort: _Cohort, asked: Asked, server_round: int
    ) -> tuple[list[tuple[ClientProxy, FitRes]], list[Any]]:
        """Return the mean as the answer of each client that is in it, and what failed."""
        run, secure, begin = grid.run, self._secured(cohort, len(asked)), SYSTEM_CLOCK.monotonic()
        secure.run = run
        messages = list(secure.configure_train(server_round, ArrayRecord(), ConfigRecord(), grid))
        nodes = [int(message.metadata.dst_node_id) for message in messages]
        run.begin_phase("train", nodes)
        needed = secure.replies_needed(len(messages))
        aggregator = secure.train_aggregator(server_round)
        folded = grid.fold(messages, aggregator, timeout=self._timeout_s, needed=needed)
        if folded.count < needed:
            causes = "".join(f"; {each}" for each in failure_causes(run.phase_failures))
            raise NotEnoughReplies(
                f"{folded.count} clients sent a masked update and {needed} are needed{causes}",
                hint="mend the clients, or lower reconstruction_threshold",
                round=server_round,
            )
        arrays, told = secure.finish_train(server_round, folded.value)
        numbers: dict[str, Any] = dict(told or {})
        share = max(1, round(numbers.pop(WEIGHT) / folded.count))
        answer = FitRes(OK, Parameters.from_record(arrays or ArrayRecord()), share, numbers)
        inside = set(nodes) - {node for node, _ in folded.failures}
        results = [(p, replace(answer)) for p, _ in asked if p.node_id in inside]
        failures = [
            RoundError("it dropped out of the secure aggregation", node=p.node_id)
            for p, _ in asked
            if p.node_id not in inside
        ]
        run.emit(
            "phase_finished",
            round=server_round,
            phase="train",
            replies=len(results),
            failures=len(failures),
            metrics=numbers,
            seconds=SYSTEM_CLOCK.monotonic() - begin,
        )
        return results, failures

    @property
    def _timeout_s(self) -> float:
        return ROUND_TIMEOUT_S if self.timeout is None else self.timeout

    def _secured(self, cohort: _Cohort, size: int) -> SecurelyAggregated:
        """Return the round of a cohort of this size under secure aggregation."""
        shares = self.num_shares
        if isinstance(shares, float):
            shares = round(shares * size)
        # As in Flower: as many neighbours on either side of a ring.
        shares = max(3, shares + 1 - shares % 2)
        degree, members = (shares - 1, shares) if shares < size else (None, size)
        threshold = self.reconstruction_threshold
        if isinstance(threshold, float):
            threshold = math.ceil(threshold * members - 1e-9)
        least = members // 2 + 1
        if threshold < least:
            self._say(
                f"reconstruction_threshold is raised from {threshold} to {least} of {members}: "
                "with fewer, a server could open both keys of a client"
            )
        return with_secagg(
            cohort,
            weight_max=self.max_weight,
            clip=self.clipping_range,
            threshold=max(threshold, least),
            degree=degree,
            bits=bits_for(size, max(1, self.quantization_range // 2)),
            metrics=self.metrics,
            stage_timeout_s=self._timeout_s,
        )

    def _say(self, text: str) -> None:
        """Log something once."""
        if text not in self._said:
            self._said.add(text)
            log(WARNING, "%s", text)


class SecAggWorkflow(SecAggPlusWorkflow):
    """The same where each client shares its keys with all others of the cohort.

    Parameters
    ----------
    reconstruction_threshold : int or float
        How many clients, or which part of the cohort, open a key.
    **options
        Those of :class:`SecAggPlusWorkflow`.

    Raises
    ------
    ConfigError
        An argument is out of its range.
    """

    def __init__(self, reconstruction_threshold: int | float, **options: Any) -> None:
        super().__init__(1.0, reconstruction_threshold, **options)


def _is_private(strategy: Strategy) -> bool:
    """Whether a wrapper for differential privacy wants clients to count the same.

    Raises
    ------
    ConfigError
        The wrapper looks at single updates or at what single clients tell.
    """
    while isinstance(strategy, Around):
        if isinstance(strategy, Private):
            if not strategy.at_client or isinstance(strategy._inside.clipping, AdaptiveBound):
                raise ConfigError(
                    f"{type(strategy).__name__} looks at single clients, and under secure "
                    "aggregation there is only their sum",
                    hint="DifferentialPrivacyClientSideFixedClipping, and in the client app "
                    "mods=[secaggplus_mod, fixedclipping_mod]",
                )
            return True
        strategy = strategy.strategy
    return False


@contextmanager
def _without_metrics(
    strategy: Strategy, has_metrics: bool, say: Callable[[str], None]
) -> Iterator[None]:
    """Keep a strategy from aggregating metrics that have stayed with the clients."""
    while isinstance(strategy, Around):
        strategy = strategy.strategy
    own = getattr(strategy, "fit_metrics_aggregation_fn", None)
    if own is None or has_metrics:
        yield
        return
    say(
        "fit_metrics_aggregation_fn is not called: under secure aggregation the clients' metrics "
        'stay with them. Name them to take their mean along: metrics={"loss": its largest size}'
    )
    inner: Any = strategy
    inner.fit_metrics_aggregation_fn = None
    try:
        yield
    finally:
        inner.fit_metrics_aggregation_fn = own
