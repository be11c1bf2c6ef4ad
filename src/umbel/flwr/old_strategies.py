"""The older API's strategies: a thin shell around the rules of ``umbel.strategies``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from logging import WARNING
from typing import Any

from umbel import serverapp, strategies
from umbel.base import ConfigError
from umbel.flwr.instructions import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    MetricsAggregationFn,
    Scalar,
)
from umbel.flwr.logs import log
from umbel.flwr.managers import ClientManager, ClientProxy
from umbel.flwr.means import weighted_loss_avg
from umbel.flwr.old_strategy import EvaluateFailures, FitFailures, Strategy
from umbel.flwr.parameters import Parameters, parameters_to_ndarrays
from umbel.records import MetricRecord, RecordDict
from umbel.updates import fold

EvaluateFn = Callable[[int, list[Any], dict[str, Scalar]], tuple[float, dict[str, Scalar]] | None]
ConfigFn = Callable[[int], dict[str, Scalar]]


class FedAvg(Strategy):
    """Federated averaging (McMahan et al. 2017, arXiv:1602.05629) with the older API's arguments.

    ``inplace`` is accepted; answers are always added up one by one.
    """

    def __init__(
        self,
        *,
        fraction_fit: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_fit_clients: int = 2,
        min_evaluate_clients: int = 2,
        min_available_clients: int = 2,
        evaluate_fn: EvaluateFn | None = None,
        on_fit_config_fn: ConfigFn | None = None,
        on_evaluate_config_fn: ConfigFn | None = None,
        accept_failures: bool = True,
        initial_parameters: Parameters | None = None,
        fit_metrics_aggregation_fn: MetricsAggregationFn | None = None,
        evaluate_metrics_aggregation_fn: MetricsAggregationFn | None = None,
        inplace: bool = True,
    ) -> None:
        self.fraction_fit = fraction_fit
        self.fraction_evaluate = fraction_evaluate
        self.min_fit_clients = min_fit_clients
        self.min_evaluate_clients = min_evaluate_clients
        self.min_available_clients = min_available_clients
        self.evaluate_fn = evaluate_fn
        self.on_fit_config_fn = on_fit_config_fn
        self.on_evaluate_config_fn = on_evaluate_config_fn
        self.accept_failures = accept_failures
        self.initial_parameters = initial_parameters
        self.fit_metrics_aggregation_fn = fit_metrics_aggregation_fn
        self.evaluate_metrics_aggregation_fn = evaluate_metrics_aggregation_fn
        self.inplace = inplace
        self._rule: serverapp.Strategy = self._make_rule()
        self._model = None if initial_parameters is None else initial_parameters.to_record()

    def _make_rule(self) -> strategies.FedAvg:
        """Return the strategy of Umbel's that does the sums."""
        return strategies.FedAvg()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(accept_failures={self.accept_failures})"

    def num_fit_clients(self, num_available_clients: int) -> tuple[int, int]:
        """Return how many clients train, and how many must be connected."""
        size = max(int(num_available_clients * self.fraction_fit), self.min_fit_clients)
        return size, self.min_available_clients

    def num_evaluation_clients(self, num_available_clients: int) -> tuple[int, int]:
        """Return how many clients evaluate, and how many must be connected."""
        size = max(int(num_available_clients * self.fraction_evaluate), self.min_evaluate_clients)
        return size, self.min_available_clients

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        initial, self.initial_parameters = self.initial_parameters, None
        return initial

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        if self.evaluate_fn is None:
            return None
        return self.evaluate_fn(server_round, parameters_to_ndarrays(parameters), {})

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        self._model = parameters.to_record()
        config = self.on_fit_config_fn(server_round) if self.on_fit_config_fn else {}
        request = FitIns(parameters, config)
        size, least = self.num_fit_clients(client_manager.num_available())
        drawn = client_manager.sample(num_clients=size, min_num_clients=least)
        return [(client, request) for client in drawn]

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        if self.fraction_evaluate == 0.0:
            return []
        config = self.on_evaluate_config_fn(server_round) if self.on_evaluate_config_fn else {}
        request = EvaluateIns(parameters, config)
        size, least = self.num_evaluation_clients(client_manager.num_available())
        drawn = client_manager.sample(num_clients=size, min_num_clients=least)
        return [(client, request) for client in drawn]

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: FitFailures,
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        if not results or (failures and not self.accept_failures):
            return None, {}
        contents = self._contents(server_round, results)
        rule = self._rule
        rule.current_arrays = contents[0].array_records["arrays"]
        if self._model is not None:
            rule.current_arrays = self._model

        def reject(position: int, error: Exception) -> None:
            log(WARNING, "client %s is left out: %s", results[position][0].cid, error)

        aggregator = rule.train_aggregator(server_round)
        total = fold(aggregator, contents, len(contents), reject)
        if total is None:
            return None, {}
        arrays, _ = rule.finish_train(server_round, aggregator.finish(total))
        metrics: dict[str, Scalar] = {}
        if self.fit_metrics_aggregation_fn is not None:
            pairs = [(answer.num_examples, answer.metrics) for _, answer in results]
            metrics = self.fit_metrics_aggregation_fn(pairs)
        if arrays is None:
            return None, metrics
        self._model = arrays
        return Parameters.from_record(arrays), metrics

    def _contents(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]]
    ) -> list[RecordDict]:
        """Return answers as the replies that the rules of the Message API expect."""
        return [_as_reply(answer) for _, answer in results]

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: EvaluateFailures,
    ) -> tuple[float | None, dict[str, Scalar]]:
        if not results or (failures and not self.accept_failures):
            return None, {}
        loss = weighted_loss_avg([(answer.num_examples, answer.loss) for _, answer in results])
        metrics: dict[str, Scalar] = {}
        if self.evaluate_metrics_aggregation_fn is not None:
            pairs = [(answer.num_examples, answer.metrics) for _, answer in results]
            metrics = self.evaluate_metrics_aggregation_fn(pairs)
        return loss, metrics


def _as_reply(answer: FitRes) -> RecordDict:
    numbers: dict[str, Any] = {"num-examples": answer.num_examples}
    for key, value in answer.metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers[key] = value
    return RecordDict({"arrays": answer.parameters.to_record(), "metrics": MetricRecord(numbers)})


class FedProx(FedAvg):
    """FedAvg that tells clients ``proximal_mu`` (Li et al. 2020, arXiv:1812.06127)."""

    def __init__(self, *, proximal_mu: float, **options: Any) -> None:
        super().__init__(**options)
        self.proximal_mu = proximal_mu

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        return [
            (client, FitIns(ins.parameters, {**ins.config, "proximal_mu": self.proximal_mu}))
            for client, ins in super().configure_fit(server_round, parameters, client_manager)
        ]


class FaultTolerantFedAvg(FedAvg):
    """FedAvg that keeps the model when too small a part of a cohort answered."""

    def __init__(
        self,
        *,
        min_completion_rate_fit: float = 0.5,
        min_completion_rate_evaluate: float = 0.5,
        **options: Any,
    ) -> None:
        least = {"min_fit_clients": 1, "min_evaluate_clients": 1, "min_available_clients": 1}
        super().__init__(**least | options)
        self.min_completion_rate_fit = min_completion_rate_fit
        self.min_completion_rate_evaluate = min_completion_rate_evaluate

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: FitFailures,
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        if _rate(results, failures) < self.min_completion_rate_fit:
            return None, {}
        return super().aggregate_fit(server_round, results, failures)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: EvaluateFailures,
    ) -> tuple[float | None, dict[str, Scalar]]:
        if _rate(results, failures) < self.min_completion_rate_evaluate:
            return None, {}
        return super().aggregate_evaluate(server_round, results, failures)


def _rate(results: list[Any], failures: list[Any]) -> float:
    return len(results) / max(1, len(results) + len(failures))


@dataclass(frozen=True)
class Rule:
    """How a strategy of the older API is one of ``umbel.strategies``."""

    defaults: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    needs_model: bool = False
    make: Callable[[dict[str, Any]], strategies.FedAvg] | None = None


def _krum(options: dict[str, Any]) -> strategies.FedAvg:
    """Return Krum: to keep no client means to take the best one's model."""
    return strategies.MultiKrum(
        num_malicious_nodes=options["num_malicious_clients"],
        num_nodes_to_select=options["num_clients_to_keep"] or 1,
    )


RULES = {
    "Bulyan": Rule(
        {"num_malicious_clients": 0},
        renamed={"num_malicious_clients": "num_malicious_nodes"},
        unused=("first_aggregation_rule", "to_keep"),
    ),
    "FedAdagrad": Rule({"eta": 0.1, "tau": 1e-9}, unused=("eta_l",), needs_model=True),
    "FedAdam": Rule(
        {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-9},
        unused=("eta_l",),
        needs_model=True,
    ),
    "FedAvgM": Rule({"server_learning_rate": 1.0, "server_momentum": 0.0}),
    "FedMedian": Rule(),
    # A base to derive from, which averages: the step is that of the class derived.
    "FedOpt": Rule(
        {"eta": 0.1, "eta_l": 0.1, "beta_1": 0.0, "beta_2": 0.0, "tau": 1e-9},
        needs_model=True,
        make=lambda options: strategies.FedAvg(),
    ),
    "FedTrimmedAvg": Rule({"beta": 0.2}),
    "FedYogi": Rule(
        {"eta": 0.01, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3},
        unused=("eta_l",),
        needs_model=True,
    ),
    "Krum": Rule({"num_malicious_clients": 0, "num_clients_to_keep": 0}, make=_krum),
}
"""A few words make a strategy of Umbel's one of the older API."""


def adopt(name: str) -> type[FedAvg]:
    """Return a strategy of the older API around that of the same name in ``umbel.strategies``."""
    own, rule = getattr(strategies, name), RULES[name]

    def __init__(self: Any, **options: Any) -> None:  # noqa: N807
        for unused in rule.unused:
            options.pop(unused, None)
        if rule.needs_model and options.get("initial_parameters") is None:
            raise ConfigError(
                f"{name} needs initial_parameters", hint="ndarrays_to_parameters makes them"
            )
        self.rule_options = {k: options.pop(k, value) for k, value in rule.defaults.items()}
        vars(self).update(self.rule_options)
        FedAvg.__init__(self, **options)

    def _make_rule(self: Any) -> Any:
        if rule.make is not None:
            return rule.make(self.rule_options)
        return own(**{rule.renamed.get(k, k): v for k, v in self.rule_options.items()})

    names = {"__module__": __name__, "__qualname__": name, "__doc__": own.__doc__}
    return type(name, (FedAvg,), {"__init__": __init__, "_make_rule": _make_rule} | names)


def __getattr__(name: str) -> Any:
    if name not in RULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = adopted = adopt(name)
    return adopted
