"""Differential privacy: what releases cost, and a ledger that stops before the budget is passed."""

from umbel.privacy.accounting import (
    Accountant,
    AccountantName,
    PldAccountant,
    RdpAccountant,
    make_accountant,
)
from umbel.privacy.calibration import Calibration, calibrate
from umbel.privacy.clipping import AdaptiveBound, Clipped, PerLayer, clip
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
from umbel.privacy.gaussian import gaussian_delta, gaussian_epsilon, gaussian_sigma
from umbel.privacy.laplace import laplace_delta, laplace_epsilon, laplace_scale
from umbel.privacy.ledger import PrivacyLedger, Spent
from umbel.privacy.noise import NoiseSource, Randomness
from umbel.privacy.shares import Mechanism, NoiseShare
from umbel.privacy.statement import PrivacyStatement

__all__ = [
    "Accountant",
    "AccountantName",
    "AdaptiveBound",
    "Adjacency",
    "Calibration",
    "Clipped",
    "CorrelatedEvent",
    "DiscreteGaussianEvent",
    "Event",
    "FixedSize",
    "GaussianEvent",
    "LaplaceEvent",
    "Mechanism",
    "NoAmplification",
    "NoiseShare",
    "NoiseSource",
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
    "calibrate",
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
]
