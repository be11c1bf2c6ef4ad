"""Differential privacy: what releases cost, and a ledger that stops before the budget is passed."""

from umbel.privacy.accounting import (
    Accountant,
    AccountantName,
    PldAccountant,
    RdpAccountant,
    make_accountant,
)
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
from umbel.privacy.ledger import PrivacyLedger, Spent
from umbel.privacy.statement import PrivacyStatement

__all__ = [
    "Accountant",
    "AccountantName",
    "Adjacency",
    "CorrelatedEvent",
    "DiscreteGaussianEvent",
    "Event",
    "FixedSize",
    "GaussianEvent",
    "LaplaceEvent",
    "NoAmplification",
    "PldAccountant",
    "Poisson",
    "PrivacyLedger",
    "PrivacyStatement",
    "RdpAccountant",
    "Sampling",
    "SkellamEvent",
    "Spent",
    "event_from_json",
    "event_to_json",
    "make_accountant",
    "natural_adjacency",
]
