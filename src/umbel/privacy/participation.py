"""How often one unit may take part in a series of rounds."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.privacy.checks import whole


@dataclass(frozen=True)
class MinSeparation:
    """Between two rounds of one unit lie at least ``separation``, and it has ``times`` at most.

    A unit that takes part in round ``t`` takes part again in round ``t + separation`` at the
    earliest. ``MinSeparation(1)`` is full participation: every unit in every round. One round an
    epoch, in the same order in each, is ``MinSeparation(rounds_per_epoch, epochs)``.
    Choquette-Choo et al. 2023, arXiv:2306.08153, section 2.

    Parameters
    ----------
    separation : int
        In rounds, at least 1.
    times : int, optional
        How many rounds of one unit at most; without it as many as the separation leaves room for.

    Raises
    ------
    ConfigError
        A number is below 1.

    Examples
    --------
    >>> print(MinSeparation(10, times=3))
    at most every 10 rounds, at most 3 times
    >>> MinSeparation(10).most(rounds=95)
    10
    """

    separation: int
    times: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "separation", whole(self.separation, "separation"))
        if self.times is not None:
            object.__setattr__(self, "times", whole(self.times, "times"))

    def most(self, rounds: int) -> int:
        """Return how often one unit takes part in so many successive rounds at most."""
        room = -(-rounds // self.separation)
        return room if self.times is None else min(room, self.times)

    def __str__(self) -> str:
        if self.separation == 1:
            often = "in every round"
        else:
            often = f"at most every {self.separation} rounds"
        return often if self.times is None else f"{often}, at most {self.times} times"
