"""What correlated noise is made by: a factor of the prefix sums, and a stream through its inverse.

A run publishes the sums ``x_1``, ``x_1 + x_2``, ... of its rounds' updates. With a factor ``C``
it publishes ``C x + z`` instead, ``z`` being independent Gaussian noise, which is one Gaussian
mechanism; what the model sees is ``x + C^-1 z``, so that a later round takes back some of the noise
of earlier ones. Denisov et al. 2022, arXiv:2202.08312.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from umbel.privacy.participation import MinSeparation
from umbel.updates import Arrays

Draw = Callable[[int], dict[str, npt.NDArray[Any]]]
"""``draw(i)`` gives this round's ``i``-th independent noise, which the caller leaves to change."""


class NoiseStream(Protocol):
    """The noise of one round after the other."""

    def step(self, draw: Draw) -> Arrays:
        """Return what is added to the next round's update; it is not to be changed."""
        ...


@runtime_checkable
class NoiseMatrix(Protocol):
    """A factor ``C`` of the prefix sums of so many rounds.

    Attributes
    ----------
    rounds : int
        How many rounds it covers.
    """

    @property
    def rounds(self) -> int:
        """How many rounds it covers."""
        ...

    def sensitivity(self, participation: MinSeparation) -> float:
        """Return how far one unit moves ``C x``, in units of the bound on one round's update.

        Never less than the maximum over all patterns of participation and all its updates.
        """
        ...

    def repeat_sensitivity(self, participation: MinSeparation) -> float:
        """Return the same for the rows of ``C x`` that are new in one round, for any round.

        It is what releasing one round anew, with other replies and fresh noise, costs on top.
        """
        ...

    def variances(self) -> npt.NDArray[np.float64]:
        """Return the variance of the noise in the sum of rounds ``1..t``, one ``t`` an entry.

        It is that of one coordinate, for independent noise of variance 1.
        """
        ...

    def stream(self) -> NoiseStream:
        """Return the noise from the first round on."""
        ...
