"""``run_simulation``: a server app and a client app, and as many virtual nodes as you like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from umbel.base import (
    SYSTEM_CLOCK,
    AppLoadError,
    ConfigError,
    Seeds,
    load_object,
    new_run_id,
    preserved_globals,
    set_up,
)
from umbel.clientapp import ClientApp
from umbel.records import Context, RecordDict, UserConfig
from umbel.serverapp import Observer, Run, ServerApp, conclude, note_failure, note_success
from umbel.simulation.carrying import carried
from umbel.simulation.engine import SimulationGrid
from umbel.simulation.executor import Executor
from umbel.simulation.inprocess import InProcessExecutor
from umbel.simulation.resources import Resources
from umbel.simulation.tasks import AppSpec

BACKENDS = ("inprocess", "processes", "ray")


def run_simulation(
    server_app: ServerApp | str,
    client_app: ClientApp | str,
    num_supernodes: int,
    backend_name: str = "processes",
    backend_config: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    run_config: Mapping[str, Any] | None = None,
    run_dir: Path | str | None = None,
    run_id: str | None = None,
    app_name: str | None = None,
    app_dir: Path | str | None = None,
    observers: Sequence[Observer] = (),
    setup: str | None = None,
    resumable: bool = False,
    resume: bool = False,
) -> Any:
    """Run a federation on this machine and return what the server app's ``main`` returned.

    Parameters
    ----------
    server_app, client_app : ServerApp, ClientApp or str
        The apps, or their names: ``"package.module:attribute"``. A client app that lives in a
        script or a notebook is carried to the workers by cloudpickle.
    num_supernodes : int
        How many virtual nodes there are; node ``i`` has ``node_config["partition-id"] == i``.
    backend_name : {"processes", "inprocess", "ray"}
        Where clients run. The outcome is the same to the last bit.
    backend_config : mapping, optional
        ``client_resources`` (``num_cpus``: threads of a client, default 1; ``num_gpus``: fractions
        share a GPU), ``workers``, ``num_gpus`` (on this machine), ``client_timeout_s``,
        ``init_args`` (for ``ray.init``).
    seed : int, optional
        The root of all randomness. Every client's ``random``, ``numpy.random`` and torch generators
        are seeded by (seed, node, kind of message, round) before it is called; with a seed given,
        so are the server app's. Without one it is drawn from ``random``.
    run_config : mapping, optional
        ``context.run_config`` on both sides.
    run_dir : path, optional
        Where the run log, the metrics and the final model go; without it nothing is written.
    run_id : str, optional
        The name of the run; made up by default.
    app_name : str, optional
        What the run log calls the app; by default the name of the client app.
    app_dir : path, optional
        Where apps that are given by name lie.
    observers : sequence of callables
        Called with every :class:`umbel.serverapp.RunEvent`.
    setup : str, optional
        ``"package.module:function"``, called without arguments in this process and in every worker
        before an app is loaded.
    resumable : bool
        Whether to save a checkpoint in ``run_dir`` after every round.
    resume : bool
        Whether to go on with the run in ``run_dir``, which was killed or ended with an error: from
        its last checkpoint, with its seed, settings and id, to the same bits
        (``docs/run-folder.md``). The apps and the number of nodes must be the same.

    Raises
    ------
    ConfigError
        A setting is unknown or out of its range; or the run in ``run_dir`` cannot be resumed.
    ProtocolError
        The log or the checkpoint of the run to resume is not what was written.
    AppLoadError
        An app cannot be loaded.
    UmbelError
        The run failed; see :meth:`umbel.serverapp.Strategy.start`.

    Examples
    --------
    >>> from umbel.records import Message, RecordDict
    >>> client, server = ClientApp(), ServerApp()
    >>> @client.query()
    ... def ping(message, context):
    ...     return Message(RecordDict(), reply_to=message)
    >>> @server.main()
    ... def main(grid, context):
    ...     calls = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
    ...     return len(grid.send_and_receive(calls))
    >>> run_simulation(server, client, num_supernodes=3, backend_name="inprocess")
    3
    """
    if not _is_count(num_supernodes):
        raise ConfigError(f"a simulation has at least one node, got {num_supernodes!r}")
    resources = Resources.parse(backend_config)
    seeds = Seeds(seed)
    config = _checked({} if run_config is None else run_config)
    run = Run(
        run_id or new_run_id(SYSTEM_CLOCK.now()),
        seeds,
        config,
        Path(run_dir) if run_dir is not None else None,
        tuple(observers),
        resumable=resumable,
        resume=resume,
        simulated=True,
    )
    # Where chance was not fixed before, it is now: the seed is known.
    seed, config = (run.seeds.seed, run.run_config) if run.resume else (seed, config)
    begin = SYSTEM_CLOCK.monotonic()
    with closing(run):
        spec = _app_spec(client_app, app_dir, run, num_supernodes, resources, setup)
        executor = _executor(backend_name, spec, client_app, resources, num_supernodes)
        try:
            with closing(executor), preserved_globals() if seed is not None else nullcontext():
                if run.resume:
                    _check_nodes(run, num_supernodes)
                else:
                    run.emit(
                        "run_started",
                        run_id=run.run_id,
                        seed=seeds.seed,
                        app=app_name or spec.reference or "(an object)",
                        app_dir=spec.app_dir,
                        nodes=num_supernodes,
                        backend=backend_name,
                        workers=executor.workers,
                        run_config=config,
                    )
                set_up(setup)
                value = _serve(server_app, app_dir, executor, run, num_supernodes, resources, seed)
            rounds, sha256 = conclude(run, value)
        except BaseException as error:
            note_failure(run, error, SYSTEM_CLOCK.monotonic() - begin)
            raise
        note_success(run, rounds, sha256, SYSTEM_CLOCK.monotonic() - begin)
    return value


def _check_nodes(run: Run, num_nodes: int) -> None:
    began_with = next(run.log.entries()).data.get("nodes")
    if began_with != num_nodes:
        raise ConfigError(
            f"the run began with {began_with} nodes and cannot go on with {num_nodes}",
            hint=f"num_supernodes={began_with}",
        )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _checked(run_config: Mapping[Any, Any]) -> UserConfig:
    """Return the settings as plain values, which are the same in every process and in the log."""
    if not isinstance(run_config, Mapping):
        raise ConfigError(f"run_config is a table of settings, got {run_config!r}")
    checked: UserConfig = {}
    for key, value in run_config.items():
        plain = value.item() if isinstance(value, np.generic) else value
        # Exactly these types: a member of an enum, say, would come out as something else.
        if type(key) is not str or type(plain) not in (bool, int, float, str):
            raise ConfigError(
                f"run_config[{key!r}] is a {type(value).__name__}",
                hint="settings are numbers, strings and booleans by name; flatten nested tables: "
                "'optimizer.lr'",
            )
        checked[key] = plain
    return checked


def _serve(
    server_app: ServerApp | str,
    app_dir: Path | str | None,
    executor: Executor,
    run: Run,
    num_nodes: int,
    resources: Resources,
    seed: int | None,
) -> Any:
    """Bring the workers up, run the server app's main, and return what it returns."""
    executor.launch()
    app: object = server_app
    if isinstance(server_app, str):
        app = load_object(server_app, Path(app_dir) if app_dir is not None else None)
    if not isinstance(app, ServerApp):
        raise AppLoadError(
            f"the server app is a {type(app).__name__}, not a ServerApp",
            hint="name the ServerApp object itself",
            app=server_app if isinstance(server_app, str) else None,
        )
    executor.start()
    grid = SimulationGrid(executor, run, num_nodes, resources.client_timeout_s)
    if seed is not None:
        run.seeds.child("server").seed_globals()
    context = Context(run.run_id, 0, {}, RecordDict(), dict(run.run_config))
    try:
        value = app(grid, context)
        grid.finish()
        return value
    finally:
        grid.close()


def _app_spec(
    client_app: ClientApp | str,
    app_dir: Path | str | None,
    run: Run,
    num_nodes: int,
    resources: Resources,
    setup: str | None,
) -> AppSpec:
    return AppSpec(
        reference=client_app if isinstance(client_app, str) else None,
        pickled=None,
        app_dir=None if app_dir is None else str(Path(app_dir).resolve()),
        run_id=run.run_id,
        seed=run.seeds.seed,
        num_nodes=num_nodes,
        run_config=dict(run.run_config),
        threads=resources.threads,
        setup=setup,
    )


def _executor(
    name: str,
    spec: AppSpec,
    client_app: ClientApp | str,
    resources: Resources,
    num_nodes: int,
) -> Executor:
    if name == "inprocess":
        if resources.client_timeout_s is not None or (resources.workers or 1) > 1:
            raise ConfigError(
                "the backend 'inprocess' runs one client at a time and can end none",
                hint="leave out workers and client_timeout_s, or use 'processes'",
            )
        return InProcessExecutor(spec, None if isinstance(client_app, str) else client_app)
    if name not in BACKENDS:
        raise ConfigError(f"there is no backend {name!r}", hint=f"choose one of {BACKENDS}")
    if not isinstance(client_app, str):
        spec = spec._replace(pickled=_pickle(client_app))
    if name == "ray":
        from umbel.simulation.ray import RayExecutor

        return RayExecutor(spec, resources, num_nodes)
    from umbel.simulation.processes import ProcessExecutor

    return ProcessExecutor(spec, resources.plans(num_nodes))


def _pickle(client_app: ClientApp) -> bytes:
    try:
        return carried(client_app)
    except Exception as error:
        raise AppLoadError(
            f"the client app cannot be carried to the workers: {error}",
            hint="put it into a module and name it: 'module:app'; or use backend 'inprocess'",
        ) from error
