"""The Ray cluster: how it is reached, and how many actors it holds."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from umbel.base import ConfigError, MissingDependency, environment, set_environment
from umbel.simulation.resources import Resources


def plan_actors(
    nodes: list[dict[str, Any]], resources: Resources, num_nodes: int
) -> tuple[int, float]:
    """Return how many actors to make, and how many CPUs each claims.

    Parameters
    ----------
    nodes : list of dict
        The machines of the cluster, as ``ray.nodes()`` lists them.
    resources : Resources
        What a client needs. A number of workers that was asked for is made, on less than the CPUs
        it should have if need be; GPUs are never shared by more clients than asked for.
    num_nodes : int
        How many virtual nodes there are.

    Raises
    ------
    ConfigError
        The cluster has too few GPUs.

    Examples
    --------
    >>> two = [{"Alive": True, "Resources": {"CPU": 3.0, "GPU": 1.0}}] * 2
    >>> plan_actors(two, Resources(num_cpus=2), num_nodes=100)
    (2, 2.0)
    >>> plan_actors(two, Resources(num_gpus=0.5), num_nodes=100)
    (4, 1.0)
    >>> plan_actors(two, Resources(workers=9), num_nodes=100)
    (9, 0.5)
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = float(resources.num_cpus), resources.num_gpus
    actors = min(num_nodes, resources.workers or _room(machines, cpus, gpus) or 1)
    if gpus and _room(machines, 0, gpus) < actors:
        raise ConfigError(
            f"{actors} clients need {gpus:g} GPUs each, and the cluster has "
            f"{sum(machine.get('GPU', 0) for machine in machines):g}",
            hint="lower client_resources['num_gpus'] or workers, or add GPUs",
        )
    while cpus and _room(machines, cpus, gpus) < actors:
        cpus = int(cpus / 2 * 10_000) / 10_000  # Ray counts in such parts
    return actors, cpus


def _room(machines: list[dict[str, float]], cpus: float, gpus: float) -> int:
    """Return how many clients fit."""
    room = 0
    for machine in machines:
        fits = []
        if cpus or not gpus:
            fits.append(int(machine.get("CPU", 0) / (cpus or 1) + 1e-9))
        if gpus:
            devices = int(machine.get("GPU", 0))
            fits.append(int(devices / gpus) if gpus >= 1 else devices * int(1 / gpus + 1e-9))
        room += min(fits)
    return room


def import_ray() -> Any:
    """Return the library.

    Raises
    ------
    MissingDependency
        It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(
            "the backend 'ray' needs Ray", hint='pip install "umbel[ray]"'
        ) from error
    return ray


def connect(ray: Any, resources: Resources) -> None:
    """Start a Ray of our own, or join the cluster that ``init_args`` or RAY_ADDRESS names."""
    own = environment()
    if "RAY_USAGE_STATS_ENABLED" not in own:
        set_environment({"RAY_USAGE_STATS_ENABLED": "0"})  # what runs here is nobody's business
    arguments: dict[str, Any] = {"include_dashboard": False, "configure_logging": False}
    if "address" not in resources.init_args and "RAY_ADDRESS" not in own:
        # Without it Ray looks for a cluster on this machine, and waits for ever for one that died.
        arguments["address"] = "local"
        if resources.total_gpus is not None:
            arguments["num_gpus"] = resources.total_gpus
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(**{**arguments, **resources.init_args})
    # Ray makes SIGTERM its own; whoever had one before still wants to hear of it.
    if callable(handler) and signal.getsignal(signal.SIGTERM) is not handler:
        signal.signal(signal.SIGTERM, handler)


def python_path() -> dict[str, str]:
    """Return what lets a worker import this Umbel where it is not installed."""
    folder = Path(__file__).parents[2]
    if folder.name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": f"{folder}:${{PYTHONPATH}}"}
