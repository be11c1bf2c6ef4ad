"""DP-FedAvg in its oldest form: the client is wrapped as well, and told everything by settings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from umbel.base import UsageError
from umbel.flwr.clients import NumPyClient
from umbel.flwr.dp_around import NoiseAround, adaptive, clipped_model
from umbel.flwr.dp_mods import noised
from umbel.flwr.dp_norms import KEY_NORM_BIT
from umbel.flwr.instructions import Config, FitRes, Metrics, Properties, Scalar
from umbel.flwr.old_dp import Private
from umbel.flwr.old_strategy import Strategy
from umbel.flwr.parameters import NDArrays
from umbel.privacy import AdaptiveBound
from umbel.records import Context

CLIP_NORM = "dpfedavg_clip_norm"
NOISE_STDDEV = "dpfedavg_noise_stddev"
IS_ADAPTIVE = "dpfedavg_adaptive_clip_enabled"
NORM_BIT = "dpfedavg_norm_bit"
"""The metric that tells whether an update was within the bound."""


class DPFedAvgFixed(Private):
    """Noise for the clients' sum, whose updates ``DPFedAvgNumPyClient`` clips.

    McMahan et al. 2018, arXiv:1710.06963. Where the server adds the noise, it clips once more and
    relies on no client. Where the clients do, the noise of those that do not answer is missing, so
    that no epsilon can be given.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    num_sampled_clients : int
        How many clients are expected in a round.
    clip_norm : float
        The bound on the L2 norm of an update.
    noise_multiplier : float, default=1
        The noise's standard deviation over the bound, in the sum; zero for none.
    server_side_noising : bool, default=True
        Whether the server adds the noise, or each client its part.

    Raises
    ------
    ConfigError
        A parameter is out of its range.
    """

    at_client = True
    bound_key: ClassVar[str] = CLIP_NORM
    bit_key: ClassVar[str] = NORM_BIT

    def __init__(
        self,
        strategy: Strategy,
        num_sampled_clients: int,
        clip_norm: float,
        noise_multiplier: float = 1,
        server_side_noising: bool = True,
    ) -> None:
        self._set_up(
            strategy, num_sampled_clients, clip_norm, noise_multiplier, server_side_noising
        )

    def _set_up(
        self,
        strategy: Strategy,
        num_sampled_clients: int,
        clipping: float | AdaptiveBound,
        noise_multiplier: float,
        server_side_noising: bool,
    ) -> None:
        self.server_side_noising = server_side_noising
        super().__init__(
            strategy,
            noise_multiplier,
            clipping,
            num_sampled_clients,
            noised_by_clients=not server_side_noising,
        )

    @property
    def clip_norm(self) -> float:
        """The bound on an update in this round."""
        return self.clipping_norm

    def _settings(self) -> dict[str, Scalar]:
        told = super()._settings()
        inside = self._inside
        if not self.server_side_noising and isinstance(inside, NoiseAround):
            part = inside.noise_of_updates * inside.bound / math.sqrt(inside.cohort)
            told[NOISE_STDDEV] = float(part)
        return told

    def _clip(self, answer: FitRes) -> tuple[FitRes, bool]:
        if self.server_side_noising:
            return super()._clip(answer)
        # Clipped already, and longer again by the noise.
        metrics = dict(answer.metrics)
        within = not metrics.pop(KEY_NORM_BIT) if self._is_told else True
        return replace(answer, num_examples=1, metrics=metrics), within

    def _was_clipped(self, bit: Any) -> bool:
        return not bit


class DPFedAvgAdaptive(DPFedAvgFixed):
    """The same with a bound that adapts: Andrew et al. 2021, arXiv:1905.03871.

    Parameters
    ----------
    strategy, num_sampled_clients, server_side_noising
        See :class:`DPFedAvgFixed`.
    init_clip_norm : float, default=0.1
        The bound to begin with.
    noise_multiplier : float, default=1.0
        As there; the noise in the count of updates within the bound is included.
    clip_norm_lr : float, default=0.2
        How fast the bound follows.
    clip_norm_target_quantile : float, default=0.5
        The part of the updates that shall be within the bound.
    clip_count_stddev : float, optional
        The noise in the count; a twentieth of ``num_sampled_clients`` by default.

    Raises
    ------
    ConfigError
        A parameter is out of its range.
    """

    def __init__(
        self,
        strategy: Strategy,
        num_sampled_clients: int,
        init_clip_norm: float = 0.1,
        noise_multiplier: float = 1.0,
        server_side_noising: bool = True,
        clip_norm_lr: float = 0.2,
        clip_norm_target_quantile: float = 0.5,
        clip_count_stddev: float | None = None,
    ) -> None:
        clipping = adaptive(
            noise_multiplier,
            init_clip_norm,
            clip_norm_target_quantile,
            clip_norm_lr,
            clip_count_stddev,
            num_sampled_clients,
        )
        self._set_up(strategy, num_sampled_clients, clipping, noise_multiplier, server_side_noising)
        self.clip_norm_lr = clip_norm_lr
        self.clip_norm_target_quantile = clip_norm_target_quantile

    def _settings(self) -> dict[str, Scalar]:
        return {**super()._settings(), IS_ADAPTIVE: True}


class DPFedAvgNumPyClient(NumPyClient):
    """A client whose updates are clipped, and noised if the server asks for it.

    Parameters
    ----------
    client : NumPyClient
        Does all the rest.
    """

    def __init__(self, client: NumPyClient) -> None:
        self.client = client

    def set_context(self, context: Context) -> None:
        super().set_context(context)
        self.client.set_context(context)

    def get_properties(self, config: Config) -> Properties:
        return self.client.get_properties(config)

    def get_parameters(self, config: Config) -> NDArrays:
        return self.client.get_parameters(config)

    def fit(self, parameters: NDArrays, config: Config) -> tuple[NDArrays, int, Metrics]:
        """Return the model with the clipped update of training.

        Raises
        ------
        UsageError
            The server tells no bound.
        """
        bound = config.get(CLIP_NORM)
        if not isinstance(bound, float):
            raise UsageError(
                f"the server tells no {CLIP_NORM!r}",
                hint="wrap the strategy into DPFedAvgFixed or DPFedAvgAdaptive",
            )
        before = {str(n): np.array(array) for n, array in enumerate(parameters)}
        trained, num_examples, metrics = self.client.fit(parameters, config)
        after = {str(n): np.asarray(array) for n, array in enumerate(trained)}
        arrays, within = clipped_model(before, after, bound)
        sigma = config.get(NOISE_STDDEV)
        if isinstance(sigma, float):
            arrays = noised(arrays, sigma, getattr(self, "context", None))
        if config.get(IS_ADAPTIVE):
            metrics = {**metrics, NORM_BIT: within}
        return list(arrays.values()), num_examples, metrics

    def evaluate(self, parameters: NDArrays, config: Config) -> tuple[float, int, Metrics]:
        return self.client.evaluate(parameters, config)
