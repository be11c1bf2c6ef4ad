"""How a run's server app is run, in whichever process: its log from beginning to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from umbel.base import SYSTEM_CLOCK
from umbel.deployment.server.grid import NetworkGrid
from umbel.deployment.wire.umbel_pb2_grpc import ServerAppsStub
from umbel.records import Context, RecordDict
from umbel.serverapp import Grid, Run, ServerApp, conclude, note_failure, note_success
from umbel.store import ObjectStore


def carry_through(
    run: Run,
    began: Mapping[str, Any],
    main: Callable[[], tuple[Any, Grid]],
    pauses: type[BaseException] | tuple[()] = (),
) -> Any:
    """Run a server app's main, log how the run began and how it ended, and close the run.

    Parameters
    ----------
    run : Run
        The run.
    began : mapping
        What the log says beside that of how the run began: ``app``, ``app_dir``, ``nodes``.
    main : callable
        Runs the app, as :func:`run_app` does.
    pauses : exception class, optional
        After it the run goes on later: nothing has ended.

    Returns
    -------
    object
        What the app's main returned.
    """
    start = SYSTEM_CLOCK.monotonic()
    try:
        if not run.resume:
            run.emit(
                "run_started",
                run_id=run.run_id,
                seed=run.seeds.seed,
                app=began["app"],
                app_dir=began["app_dir"],
                nodes=began["nodes"],
                backend="deployment",
                workers=None,
                run_config=run.run_config,
            )
        value, grid = main()
        rounds, sha256 = conclude(run, value, grid.stored)
    except pauses:
        raise
    except BaseException as error:
        note_failure(run, error, SYSTEM_CLOCK.monotonic() - start)
        raise
    else:
        note_success(run, rounds, sha256, SYSTEM_CLOCK.monotonic() - start)
        return value
    finally:
        run.sync()  # before anybody is told that it is over
        run.close()


def run_app(
    app: ServerApp, run: Run, stub: ServerAppsStub, objects: ObjectStore, *, seeded: bool
) -> tuple[Any, Grid]:
    """Run the app's main function over the network's grid; return what it returns, and the grid."""
    if seeded:
        run.seeds.child("server").seed_globals()
    grid = NetworkGrid(run, stub, objects)
    return app(grid, Context(run.run_id, 0, {}, RecordDict(), dict(run.run_config))), grid
