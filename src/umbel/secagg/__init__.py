"""Secure aggregation: the server learns the sum of a cohort's updates, and none of them."""

from umbel.secagg.fixedpoint import Decoded, FixedPoint, bits_for

__all__ = ["Decoded", "FixedPoint", "bits_for"]
