"""From ``client_resources`` to workers: how many, with how many threads, seeing which GPUs."""

from __future__ import annotations

import difflib
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from umbel.base import ConfigError, environment

_KEYS = {
    "client_resources": {"num_cpus", "num_gpus"},
    "init_args": None,
    "workers": None,
    "num_gpus": None,
    "client_timeout_s": None,
}


@dataclass(frozen=True)
class WorkerPlan:
    """How one worker is started.

    Attributes
    ----------
    fork : bool
        Whether it is forked from a shared process; otherwise it starts afresh, as a library that
        drives a GPU needs.
    environment : dict
        Variables set before it starts.
    """

    fork: bool = True
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Resources:
    """A backend's configuration, checked.

    Attributes
    ----------
    num_cpus : float
        CPUs a client needs; also the number of threads of a worker, at least one.
    num_gpus : float
        GPUs a client needs; fractions share a GPU.
    workers : int or None
        The number of workers, if it was given.
    total_gpus : int or None
        The number of GPUs to use, if it was given.
    client_timeout_s : float or None
        How many seconds one client may take.
    init_args : dict
        What goes to ``ray.init``.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    workers: Any = None
    total_gpus: Any = None
    client_timeout_s: Any = None
    init_args: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, backend_config: Mapping[str, Any] | None) -> Resources:
        """Read ``backend_config``.

        Raises
        ------
        ConfigError
            A key is unknown, or a value is out of its range.
        """
        config = _table(backend_config, "backend_config")
        _check_keys(config, _KEYS.keys(), "backend_config")
        client = _table(config.get("client_resources"), "client_resources")
        _check_keys(client, _KEYS["client_resources"] or set(), "client_resources")
        init_args = _table(config.get("init_args"), "init_args")
        resources = cls(
            num_cpus=_number(client.get("num_cpus", 1), "num_cpus"),
            num_gpus=_number(client.get("num_gpus", 0), "num_gpus"),
            workers=config.get("workers"),
            total_gpus=config.get("num_gpus", init_args.get("num_gpus")),
            client_timeout_s=config.get("client_timeout_s"),
            init_args=init_args,
        )
        resources._check()
        return resources

    @property
    def threads(self) -> int:
        """How many threads the numeric libraries of a worker use."""
        return max(1, int(self.num_cpus))

    def plans(self, num_nodes: int) -> list[WorkerPlan]:
        """Return how each worker is started.

        Raises
        ------
        ConfigError
            This machine cannot hold a single client.
        """
        gpus = visible_gpus()
        if self.total_gpus is not None:
            # Fewer than are visible: the first ones. More: the caller knows of them, we do not.
            enough = len(gpus) >= self.total_gpus
            gpus = gpus[: self.total_gpus] if enough else [str(i) for i in range(self.total_gpus)]
        slots = _gpu_slots(gpus, self.num_gpus) if self.num_gpus else []
        if self.num_gpus and not slots:
            raise ConfigError(
                f"a client needs {self.num_gpus:g} GPUs and this machine shows {len(gpus)}",
                hint="lower client_resources['num_gpus'], or mend CUDA_VISIBLE_DEVICES",
            )
        workers = self.workers
        if workers is None:
            cpus = self.init_args.get("num_cpus") or available_cpus()
            workers = max(1, int(cpus / self.num_cpus)) if self.num_cpus else cpus
            if slots:
                workers = min(workers, len(slots))
        workers = max(1, min(workers, num_nodes))
        if not self.num_gpus:
            # A client that asked for no GPU must not find one by accident.
            fork = sys.platform == "linux"
            return [WorkerPlan(fork, {"CUDA_VISIBLE_DEVICES": ""})] * workers
        return [
            WorkerPlan(False, {"CUDA_VISIBLE_DEVICES": slots[i % len(slots)]})
            for i in range(workers)
        ]

    def _check(self) -> None:
        if self.num_gpus > 1 and not self.num_gpus.is_integer():
            raise ConfigError(
                f"num_gpus={self.num_gpus:g}: more than one GPU comes in whole numbers",
                hint="give a fraction of one GPU, or a whole number of GPUs",
            )
        for name, value in (("workers", self.workers), ("num_gpus", self.total_gpus)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name} is a whole number, at least 1, got {value!r}")
        limit = self.client_timeout_s
        if limit is not None and not (isinstance(limit, int | float) and limit > 0):
            raise ConfigError(f"client_timeout_s is a number of seconds above 0, got {limit!r}")


def _table(value: Any, name: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{name} is a table of settings, got {value!r}")
    return dict(value or {})


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{name} is a number, at least 0, got {value!r}")
    return float(value)


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that this process may use."""
    chosen = environment().get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def _gpu_slots(gpus: list[str], each: float) -> list[str]:
    """Return what ``CUDA_VISIBLE_DEVICES`` is for each client that fits on the GPUs."""
    if each < 1:
        return [gpu for _ in range(int(1 / each + 1e-9)) for gpu in gpus]
    size = int(each)
    return [",".join(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]


def _check_keys(config: Mapping[str, Any], known: Any, where: str) -> None:
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            raise ConfigError(
                f"{where} does not know {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it knows {sorted(known)}",
            )
