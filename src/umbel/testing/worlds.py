"""Worlds told by files: a federation, what goes wrong in it, and what must hold all the same."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from umbel.testing.network import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A federation, what goes wrong in it, and what must hold all the same.

    `all_answered` says that no fault is so long that a message may fail; `reaches` names the
    effects that must be seen in some of the `seeds` worlds.
    """

    nodes: int
    rounds: int
    cohort: int
    seeds: int
    ends_within_s: float
    reaches: frozenset[str]
    all_answered: bool = False
    capacity: int = 1
    tasks: int = 1
    compute_s: float = 5.0
    ttl_s: float = 3600.0
    faults: tuple[Fault, ...] = ()


def read_world(path: Path) -> World:
    """Return the world that a TOML file tells of; its keys are those of `World` and `Fault`."""
    told = tomllib.loads(path.read_text())
    faults = tuple(Fault(**fault) for fault in told.pop("fault", ()))
    return World(**{**told, "reaches": frozenset(told["reaches"])}, faults=faults)
