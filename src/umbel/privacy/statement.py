"""What a run promises about privacy, with everything without which ε means nothing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from umbel.privacy.events import Adjacency, Sampling, sampling_from_json, sampling_to_json

_NEIGHBOURS: dict[str, str] = {
    "add-or-remove-one": "one {unit} is added or removed",
    "zero-out": "the data of one {unit} are replaced by nothing",
    "replace-one": "the data of one {unit} are replaced by any other",
}

WITHOUT_NOISE = "the models of calls of strategy.start without noise"
"""What a statement does not cover where a run has trained without privacy as well."""

Unit = Literal["user", "client", "record"]


@dataclass(frozen=True)
class PrivacyStatement:
    """The differential privacy of what was released, in full.

    Attributes
    ----------
    epsilon, delta : float
        The guarantee; ``epsilon`` may be infinite, which says that there is none.
    unit : {"user", "client", "record"}
        Whose data are hidden.
    adjacency : {"add-or-remove-one", "zero-out", "replace-one"}
        Which data sets cannot be told apart.
    sampling : Sampling
        What the accounting assumes about who takes part.
    sampling_enforced : bool
        Whether the program that picks them really picks so.
    mechanism : str
        The noise, in words: ``"Gaussian, noise multiplier 1.0, clipping 0.5"``.
    noise_added_at : str
        Who adds it and must be trusted for it: ``"server"``, ``"client"``.
    accountant : str
        How ε was counted: ``"pld"``, ``"rdp"``.
    noise_randomness : {"cryptographic", "seeded: simulation only", "up to the clients"}
        Where the noise comes from; whoever knows a seed can take the noise away.
    covers, not_covered : tuple of str
        What of the run is under the guarantee, and what is not.

    Examples
    --------
    >>> from umbel.privacy.events import Poisson
    >>> print(PrivacyStatement(
    ...     epsilon=3.5, delta=1e-6, unit="client", adjacency="add-or-remove-one",
    ...     sampling=Poisson(0.01), mechanism="Gaussian, noise multiplier 1",
    ...     noise_added_at="server", accountant="pld", noise_randomness="cryptographic",
    ...     covers=("model",), not_covered=("evaluation",)))
    ε = 3.5 at δ = 1e-06 for each client. Neighbours differ in that one client is added or removed.
    Mechanism: Gaussian, noise multiplier 1; noise added at the server, randomness cryptographic.
    Sampling: Poisson, each with probability 0.01 (enforced). Counted by the PLD accountant.
    Covers: model. Not covered: evaluation.
    """

    epsilon: float
    delta: float
    unit: Unit
    adjacency: Adjacency
    sampling: Sampling
    mechanism: str
    noise_added_at: str
    accountant: str
    noise_randomness: Literal["cryptographic", "seeded: simulation only", "up to the clients"]
    covers: tuple[str, ...]
    not_covered: tuple[str, ...] = ()
    sampling_enforced: bool = True

    def __str__(self) -> str:
        neighbours = _NEIGHBOURS[self.adjacency].format(unit=self.unit)
        enforced = "enforced" if self.sampling_enforced else "assumed, not enforced"
        epsilon = f"{self.epsilon:.4g}" if math.isfinite(self.epsilon) else "∞ (no guarantee)"
        return (
            f"ε = {epsilon} at δ = {self.delta:g} for each {self.unit}. "
            f"Neighbours differ in that {neighbours}.\n"
            f"Mechanism: {self.mechanism}; noise added at the {self.noise_added_at}, randomness "
            f"{self.noise_randomness}.\n"
            f"Sampling: {self.sampling} ({enforced}). Counted by the "
            f"{self.accountant.upper()} accountant.\n"
            f"Covers: {_listed(self.covers)}. Not covered: {_listed(self.not_covered)}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values; an infinite ε is the text ``"Infinity"``."""
        data = asdict(self) | {"sampling": sampling_to_json(self.sampling)}
        data["covers"], data["not_covered"] = list(self.covers), list(self.not_covered)
        if not math.isfinite(self.epsilon):
            data["epsilon"] = "Infinity"
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PrivacyStatement:
        """Return the statement that :meth:`to_json` wrote."""
        return cls(
            **data
            | {
                "epsilon": float(data["epsilon"]),
                "sampling": sampling_from_json(data["sampling"]),
                "covers": tuple(data["covers"]),
                "not_covered": tuple(data["not_covered"]),
            }
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) if names else "nothing"
