"""Clipping before and noise after a strategy of which nothing is known: no promise comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from logging import WARNING
from typing import Any

import numpy as np

from umbel.base import RejectedReply, content_hash
from umbel.flwr.logs import log
from umbel.privacy import (
    AdaptiveBound,
    NoAmplification,
    NoiseSource,
    PerLayer,
    PrivacyStatement,
    clip,
)
from umbel.records import ArrayRecord, RecordDict, encode
from umbel.serverapp import Run
from umbel.strategies import Clipping
from umbel.updates import Arrays, NDArray, cast_back, is_whole, sum_dtype

DELTA = 1e-5
"""The delta at which epsilon is told where an app gives none: Flower's wrappers do not take it."""


class OfCount(AdaptiveBound):
    """A bound that adapts to a count without noise, for runs without any."""

    def noise_of_count(self, cohort: int) -> float:
        return 0.0

    def split(self, noise_multiplier: float, cohort: int) -> float:
        return 0.0


def adaptive(
    noise_multiplier: float,
    bound: float,
    quantile: float,
    learning_rate: float,
    count_sigma: float | None,
    cohort: int,
) -> AdaptiveBound:
    """Return a bound that adapts; the noise in its count is that for the cohort expected."""
    if not noise_multiplier and not count_sigma:
        return OfCount(bound, quantile, learning_rate)
    sigma = cohort / 20 if count_sigma is None else count_sigma
    return AdaptiveBound(bound, quantile, learning_rate, sigma)


class AdaptiveArguments:
    """Takes the arguments of Flower's wrappers whose bound adapts; goes before their base.

    They are the same in both APIs.
    """

    def __init__(
        self,
        strategy: Any,
        noise_multiplier: float,
        num_sampled_clients: int,
        initial_clipping_norm: float = 0.1,
        target_clipped_quantile: float = 0.5,
        clip_norm_lr: float = 0.2,
        clipped_count_stddev: float | None = None,
    ) -> None:
        clipping = adaptive(
            noise_multiplier,
            initial_clipping_norm,
            1 - target_clipped_quantile,
            clip_norm_lr,
            clipped_count_stddev,
            num_sampled_clients,
        )
        wrapper: Any = super()
        wrapper.__init__(strategy, noise_multiplier, clipping, num_sampled_clients)
        self.target_clipped_quantile = target_clipped_quantile
        self.clip_norm_lr = clip_norm_lr


@dataclass
class NoiseAround:
    """Clips what goes into a strategy and noises what comes out of it.

    The noise is that for a mean of updates that count the same. A strategy that does something else
    with them may let one client move its outcome by any distance, so there is no epsilon.

    Attributes
    ----------
    name : str
        The strategy's.
    noise_multiplier : float
        The noise's standard deviation over the bound; zero for none.
    clipping : float or AdaptiveBound
        The bound; one that adapts is another after each round.
    cohort : int
        How many clients are asked.
    by_clients : bool
        Whether each client adds noise of its own, so that none is added here.
    """

    name: str
    noise_multiplier: float
    clipping: float | AdaptiveBound
    cohort: int
    by_clients: bool = False

    def __post_init__(self) -> None:
        if self.by_clients:
            cause = "each client adds its own noise, and nobody can check that"
        elif self.noise_multiplier:
            cause = f"{self.name} may do anything with what clients send"
        else:
            cause = "there is no noise"
        log(WARNING, "updates are clipped, and no epsilon can be given: %s", cause)

    @property
    def bound(self) -> float:
        """The bound of this round."""
        return bound_of(self.clipping)

    @property
    def noise_of_updates(self) -> float:
        """The multiplier of the noise in the updates; a count of clients takes its part."""
        if isinstance(self.clipping, AdaptiveBound):
            return self.clipping.split(self.noise_multiplier, self.cohort)
        return self.noise_multiplier

    def noised(
        self, run: Run, server_round: int, arrays: ArrayRecord, within: int, count: int
    ) -> ArrayRecord:
        """Return a model with noise, after ``within`` of ``count`` updates were within the bound.

        The result of the run says from now on that this promises nothing.
        """
        source = NoiseSource(run.secret("noise"), seeded=run.simulated)
        # Another outcome has other noise, also where a round is done again after a crash.
        told = content_hash(encode(RecordDict({"arrays": arrays})))
        names = (run.start, server_round, told)
        views = arrays.views()
        floats = {key: value for key, value in views.items() if not is_whole(value.dtype)}
        # The mean is over those that answered, so that each of them moves it by so much more.
        share = self.bound / max(1, min(count, self.cohort))
        sigma = 0.0 if self.by_clients else self.noise_of_updates * share
        if sigma:
            noise = source.gaussian(floats, sigma, "around", *names)
            views = {**views, **{key: _sum(floats[key], noise[key]) for key in floats}}
        clipping = self.clipping
        if isinstance(clipping, AdaptiveBound):
            size = clipping.noise_of_count(self.cohort)
            drawn = source.gaussian({"count": np.zeros(())}, size, "count", *names)["count"]
            fraction = clipping.fraction(within, count, max(1, count), float(drawn))
            self.clipping = clipping.after(fraction)
        if run.result is not None:
            run.result.privacy = self._statement(source)
        return ArrayRecord(views)

    def _statement(self, source: NoiseSource) -> PrivacyStatement:
        noise = f"noise multiplier {self.noise_multiplier:g}" if self.noise_multiplier else "none"
        return PrivacyStatement(
            epsilon=math.inf,
            delta=DELTA,
            unit="client",
            adjacency="zero-out",
            sampling=NoAmplification(),
            mechanism=f"Gaussian, {noise}, on what {self.name} makes of clipped updates",
            noise_added_at="client" if self.by_clients else "server",
            accountant="none",
            noise_randomness=source.randomness,
            covers=(),
            not_covered=("the global models", "all else"),
        )


def bound_of(clipping: Clipping) -> float:
    """Return the bound of this round."""
    match clipping:
        case AdaptiveBound(bound=bound):
            return bound
        case PerLayer():
            return clipping.sensitivity
        case bound:
            return bound


def clipped_model(model: Arrays, arrays: Arrays, bound: float) -> tuple[dict[str, NDArray], bool]:
    """Return a reply's arrays, none farther from the model than the bound, and whether all were.

    Whole numbers stay as they came.

    Raises
    ------
    RejectedReply
        An array is not one of the model's, or holds NaN or infinity.

    Examples
    --------
    >>> clipped_model({"w": np.ones(1)}, {"w": np.array([4.0])}, 2.0)[0]["w"].round(6).tolist()
    [3.0]
    """
    floats = {key: value for key, value in arrays.items() if not is_whole(value.dtype)}
    for key, value in floats.items():
        if key not in model or model[key].shape != value.shape:
            raise RejectedReply(
                "it holds an array that is not one of the model's, or has another shape",
                hint="train the model that the message carried, and reply with the same keys",
                key=key,
            )
    with np.errstate(over="ignore", invalid="ignore"):  # clipping looks at the values
        update = {
            key: np.subtract(value, model[key], dtype=sum_dtype(value.dtype), casting="unsafe")
            for key, value in floats.items()
        }
    clipped = clip(update, bound)
    if clipped.within:
        return dict(arrays), True
    steps = clipped.update
    return {
        key: cast_back(np.asarray(model[key].astype(steps[key].dtype) + steps[key]), value.dtype)
        if key in steps
        else value
        for key, value in arrays.items()
    }, False


def _sum(value: NDArray, noise: NDArray) -> NDArray:
    return cast_back(np.asarray(value.astype(noise.dtype) + noise), value.dtype)
