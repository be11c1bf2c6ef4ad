"""What counts as a number in an argument: NaN passes every comparison, and text raises in one."""

from __future__ import annotations

import math
from numbers import Integral, Real


def is_number(value: object) -> bool:
    """Return whether it is a finite real number, and no truth value.

    Examples
    --------
    >>> [is_number(value) for value in (1, 0.5, float("nan"), float("inf"), True, "1", None)]
    [True, True, False, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return isinstance(value, Integral) or math.isfinite(value)


def is_whole_number(value: object) -> bool:
    """Return whether it is an integer, and no truth value.

    Examples
    --------
    >>> [is_whole_number(value) for value in (3, 3.0, True, "3")]
    [True, False, False, False]
    """
    return not isinstance(value, bool) and isinstance(value, Integral)
