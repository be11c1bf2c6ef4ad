"""Flower's wrappers for differential privacy around strategies of the older API.

Around ``FedAvg`` and its kin they make the rule inside private, as in the Message API: each client
counts the same, and the ledger lies in the log of the run. A strategy with an ``aggregate_fit`` of
its own gets clipped answers, and noise on its model; but no epsilon can be given for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from logging import WARNING
from typing import Any, ClassVar

from umbel.base import ConfigError, RejectedReply
from umbel.flwr.dp_around import DELTA, AdaptiveArguments, NoiseAround, bound_of, clipped_model
from umbel.flwr.dp_norms import CLIENTS_DISCREPANCY_WARNING, KEY_CLIPPING_NORM, KEY_NORM_BIT
from umbel.flwr.dp_strategies import Accounted, accounted_kind
from umbel.flwr.instructions import EvaluateIns, EvaluateRes, FitIns, FitRes, Scalar
from umbel.flwr.logs import log
from umbel.flwr.managers import ClientManager, ClientProxy, GridProxy
from umbel.flwr.old_strategies import FedAvg
from umbel.flwr.old_strategy import EvaluateFailures, FitFailures, Strategy
from umbel.flwr.parameters import NUMPY, Parameters
from umbel.privacy import AdaptiveBound
from umbel.records import ArrayRecord
from umbel.serverapp import Run

Fitted = tuple[ClientProxy, FitRes]


class Around(Strategy):
    """Does what a strategy does; override what is to be done otherwise."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        return self.strategy.initialize_parameters(client_manager)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        return self.strategy.configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(
        self, server_round: int, results: list[Fitted], failures: FitFailures
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        return self.strategy.aggregate_fit(server_round, results, failures)

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        return self.strategy.configure_evaluate(server_round, parameters, client_manager)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: EvaluateFailures,
    ) -> tuple[float | None, dict[str, Scalar]]:
        return self.strategy.aggregate_evaluate(server_round, results, failures)

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        return self.strategy.evaluate(server_round, parameters)


class Private(Around):
    """What the wrappers of the older API share.

    Attributes
    ----------
    strategy : Strategy
        What is wrapped; it is used through the wrapper alone.
    noise_multiplier : float
        The noise's standard deviation over the bound, count of clients included.
    num_sampled_clients : int
        How many clients are expected in a round.
    """

    at_client: ClassVar[bool]
    bound_key: ClassVar[str] = KEY_CLIPPING_NORM
    bit_key: ClassVar[str] = KEY_NORM_BIT

    def __init__(
        self,
        strategy: Strategy,
        noise_multiplier: float,
        clipping: float | AdaptiveBound,
        num_sampled_clients: int,
        *,
        noised_by_clients: bool = False,
    ) -> None:
        super().__init__(strategy)
        if noise_multiplier < 0:
            raise ConfigError(f"noise_multiplier is not negative, got {noise_multiplier}")
        self.noise_multiplier = noise_multiplier
        self.num_sampled_clients = num_sampled_clients
        self._is_told = self.at_client and isinstance(clipping, AdaptiveBound)
        inside: Accounted | NoiseAround | None = None
        if noise_multiplier and isinstance(strategy, FedAvg) and not noised_by_clients:
            inside = self._accounted(strategy, clipping)
        if inside is None:
            name = type(strategy).__name__
            inside = NoiseAround(
                name, noise_multiplier, clipping, num_sampled_clients, noised_by_clients
            )
        self._inside = inside
        self._model = ArrayRecord()
        self._run = Run()
        self._has_warned = False

    def _accounted(self, strategy: FedAvg, clipping: float | AdaptiveBound) -> Accounted | None:
        """Make the rule of a strategy private, if it averages."""
        if type(strategy).aggregate_fit is not FedAvg.aggregate_fit:
            return None
        rule = accounted_kind(self.at_client, clipping)(
            strategy._rule,
            noise_multiplier=self.noise_multiplier,
            clipping=clipping,
            cohort=self.num_sampled_clients,
            delta=DELTA,
            release_metrics=True,
        )
        try:
            rule.train_aggregator(1)
        except ConfigError:
            return None
        strategy._rule = rule
        return rule

    @property
    def clipping_norm(self) -> float:
        """The bound on an update in this round."""
        return bound_of(self._inside.clipping)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        asked = super().configure_fit(server_round, parameters, client_manager)
        inside = self._inside
        self._model = parameters.to_record()
        self._run = run_of(asked) or self._run
        if asked:
            inside.cohort = len(asked)
        if isinstance(inside, Accounted):
            inside.run = self._run
            self.strategy._model = self._model  # type: ignore[attr-defined]
        if asked and len(asked) != self.num_sampled_clients and not self._has_warned:
            self._has_warned = True
            log(WARNING, CLIENTS_DISCREPANCY_WARNING, len(asked), self.num_sampled_clients)
        return with_settings(asked, self._settings())

    def _settings(self) -> dict[str, Scalar]:
        """Return what clients are told."""
        return {self.bound_key: float(self.clipping_norm)} if self.at_client else {}

    def aggregate_fit(
        self, server_round: int, results: list[Fitted], failures: FitFailures
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        inside, fits = self._inside, []
        kept: list[Fitted] = []
        for client, answer in results:
            try:
                told = self._with_bit(answer) if self._is_told else answer
                clipped, within = (
                    (told, True) if isinstance(inside, Accounted) else self._clip(told)
                )
            except RejectedReply as error:
                log(WARNING, "client %s is left out: %s", client.cid, error)
                failures = [*failures, error]
            else:
                kept.append((client, clipped))
                fits.append(within)
        if isinstance(inside, Accounted):
            return super().aggregate_fit(server_round, kept, failures)
        parameters, metrics = super().aggregate_fit(server_round, kept, failures)
        if parameters is None or parameters.tensor_type != NUMPY:
            return parameters, metrics
        record = parameters.to_record()
        noised = inside.noised(self._run, server_round, record, sum(fits), len(fits))
        return Parameters.from_record(noised), metrics

    def _clip(self, answer: FitRes) -> tuple[FitRes, bool]:
        """Return an answer within the bound, with the weight 1; and whether it was within."""
        arrays, within = clipped_model(
            self._model.views(), answer.parameters.to_record().views(), self.clipping_norm
        )
        metrics = dict(answer.metrics)
        if self._is_told:
            within = not metrics.pop(KEY_NORM_BIT)
        parameters = Parameters.from_record(ArrayRecord(arrays))
        return replace(answer, parameters=parameters, num_examples=1, metrics=metrics), within

    def _with_bit(self, answer: FitRes) -> FitRes:
        """Return an answer that tells, under one name, whether its update was clipped."""
        metrics = dict(answer.metrics)
        if self.bit_key not in metrics:
            raise RejectedReply(
                f"it does not tell {self.bit_key!r}",
                hint="give the client app mods=[adaptiveclipping_mod], or wrap the client into "
                "DPFedAvgNumPyClient",
            )
        metrics[KEY_NORM_BIT] = int(self._was_clipped(metrics.pop(self.bit_key)))
        return replace(answer, metrics=metrics)

    def _was_clipped(self, bit: Any) -> bool:
        return bool(bit)


def with_settings(
    asked: list[tuple[ClientProxy, FitIns]], settings: dict[str, Scalar]
) -> list[tuple[ClientProxy, FitIns]]:
    """Return requests with more settings; clients that shared one request still share one."""
    made = {id(ins): FitIns(ins.parameters, {**ins.config, **settings}) for _, ins in asked}
    return [(client, made[id(ins)]) for client, ins in asked]


def run_of(asked: Sequence[tuple[ClientProxy, Any]]) -> Run | None:
    """Return the run whose grid clients belong to, if they belong to one."""
    for client, _ in asked:
        if isinstance(client, GridProxy):
            return client.grid.run
    return None


class _Fixed(Private):
    def __init__(
        self,
        strategy: Strategy,
        noise_multiplier: float,
        clipping_norm: float,
        num_sampled_clients: int,
    ) -> None:
        super().__init__(strategy, noise_multiplier, clipping_norm, num_sampled_clients)


class _Adaptive(AdaptiveArguments, Private):
    pass


class DifferentialPrivacyServerSideFixedClipping(_Fixed):
    """Noise for the clients' sum, whose updates the server clips.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped; see the module for what it may be.
    noise_multiplier : float
        The noise's standard deviation over the bound; zero for clipping alone.
    clipping_norm : float
        The bound on the L2 norm of an update.
    num_sampled_clients : int
        How many clients are expected in a round.

    Raises
    ------
    ConfigError
        A parameter is out of its range.
    """

    at_client = False


class DifferentialPrivacyClientSideFixedClipping(_Fixed):
    """Noise for the clients' sum, whose updates the clients clip with ``fixedclipping_mod``.

    The server clips once more, and so relies on no client. The parameters are those of
    :class:`DifferentialPrivacyServerSideFixedClipping`.
    """

    at_client = True


class DifferentialPrivacyServerSideAdaptiveClipping(_Adaptive):
    """Noise for the clients' sum, whose updates the server clips to a bound that adapts.

    The parameters are those of the wrapper of the same name in the Message API.
    """

    at_client = False


class DifferentialPrivacyClientSideAdaptiveClipping(_Adaptive):
    """Noise for the clients' sum, whose updates ``adaptiveclipping_mod`` clips at the clients.

    The parameters are those of the wrapper of the same name in the Message API.
    """

    at_client = True
