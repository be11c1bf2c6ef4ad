"""Differential privacy: what releases cost, and a ledger that stops before the budget is passed."""

from umbel.privacy.accounting import (
    Accountant,
    AccountantName,
    PldAccountant,
    RdpAccountant,
    make_accountant,
)
from umbel.privacy.banded import BandedMatrix
from umbel.privacy.calibration import (
    Calibration,
    calibrate,
)
from umbel.privacy.checks import (
    chance,
    positive,
    small_chance,
    whole,
)
from umbel.privacy.clipping import (
    AdaptiveBound,
    Clipped,
    PerLayer,
    clip,
)
from umbel.privacy.correlated import CorrelatedNoise
from umbel.privacy.events import (
    Adjacency,
    CorrelatedEvent,
    DiscreteGaussianEvent,
    Event,
    FixedSize,
    GaussianEvent,
    LaplaceEvent,
    NoAmplification,
    Poisson,
    Sampling,
    SkellamEvent,
    event_from_json,
    event_to_json,
    natural_adjacency,
)
from umbel.privacy.gaussian import (
    gaussian_delta,
    gaussian_epsilon,
    gaussian_sigma,
)
from umbel.privacy.laplace import (
    laplace_delta,
    laplace_epsilon,
    laplace_scale,
)
from umbel.privacy.ledger import (
    PrivacyLedger,
    Spent,
)
from umbel.privacy.noise import (
    NoiseSource,
    Randomness,
)
from umbel.privacy.noisematrix import NoiseMatrix, NoiseStream
from umbel.privacy.participation import MinSeparation
from umbel.privacy.shares import Mechanism, NoiseShare
from umbel.privacy.statement import (
    WITHOUT_NOISE,
    PrivacyStatement,
    Unit,
)
from umbel.privacy.tree import TreeAggregation

__all__ = [
    "WITHOUT_NOISE",
    "Accountant",
    "AccountantName",
    "AdaptiveBound",
    "Adjacency",
    "BandedMatrix",
    "Calibration",
    "Clipped",
    "CorrelatedEvent",
    "CorrelatedNoise",
    "DiscreteGaussianEvent",
    "Event",
    "FixedSize",
    "GaussianEvent",
    "LaplaceEvent",
    "Mechanism",
    "MinSeparation",
    "NoAmplification",
    "NoiseMatrix",
    "NoiseShare",
    "NoiseSource",
    "NoiseStream",
    "PerLayer",
    "PldAccountant",
    "Poisson",
    "PrivacyLedger",
    "PrivacyStatement",
    "Randomness",
    "RdpAccountant",
    "Sampling",
    "SkellamEvent",
    "Spent",
    "TreeAggregation",
    "Unit",
    "calibrate",
    "chance",
    "clip",
    "event_from_json",
    "event_to_json",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_sigma",
    "laplace_delta",
    "laplace_epsilon",
    "laplace_scale",
    "make_accountant",
    "natural_adjacency",
    "positive",
    "small_chance",
    "whole",
]
