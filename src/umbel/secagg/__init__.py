"""Secure aggregation: the server learns the sum of the clients' vectors, and nothing else of them.

Two state machines without I/O, after Bonawitz et al., "Practical secure aggregation for
privacy-preserving machine learning", 2017 (arXiv:1611.04482), and Bell et al., "Secure
single-server aggregation with (poly)logarithmic overhead", 2020 (eprint 2020/704).
"""

from umbel.secagg.client import ClientSession
from umbel.secagg.degree import GraphChoice, choose_degree
from umbel.secagg.fixedpoint import Decoded, FixedPoint, bits_for
from umbel.secagg.keys import Identity, trusted_keys
from umbel.secagg.parameters import SecAggParameters
from umbel.secagg.payloads import Payload
from umbel.secagg.plan import SECAGG_RECORD, Plan
from umbel.secagg.reference import plain_sum
from umbel.secagg.server import ServerSession

__all__ = [
    "SECAGG_RECORD",
    "ClientSession",
    "Decoded",
    "FixedPoint",
    "GraphChoice",
    "Identity",
    "Payload",
    "Plan",
    "SecAggParameters",
    "ServerSession",
    "bits_for",
    "choose_degree",
    "plain_sum",
    "trusted_keys",
]
