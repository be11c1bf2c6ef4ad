"""``umbel run``: simulate an app, show how it goes, and say how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umbel.base import SYSTEM_CLOCK, AppProject, ConfigError, Seeds, new_run_id
from umbel.cli.display import LiveDisplay, PlainDisplay
from umbel.cli.history import RunHistory, find_run, read_history
from umbel.cli.problems import (
    FAILED,
    ended_by_sigterm,
    error_as_json,
    exit_status,
    print_error,
    print_json,
)
from umbel.cli.tables import STATUS_STYLES, console, last_round_table, privacy_text

if TYPE_CHECKING:
    from rich.console import Console

    from umbel.serverapp import RunEvent


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the command line asks for; None leaves the choice to the app."""

    app_dir: Path
    nodes: int | None
    backend: str | None
    workers: int | None
    seed: int | None
    overrides: list[str]
    runs_dir: Path
    resumable: bool = False
    resume: Path | None = None
    """The folder of the run to go on with."""


def resume_app(name: str, runs_dir: Path, *, as_json: bool, quiet: bool) -> int:
    """Go on with a run, on what it ran on, and return the exit status of the command."""
    folder = find_run(name, runs_dir)
    about = read_history(folder).about
    if not about.get("app_dir"):
        raise ConfigError(
            "the log does not say where the run's app lies",
            hint="go on with it in Python: run_simulation(..., run_dir=..., resume=True)",
            run_dir=folder,
        )
    request = RunRequest(
        app_dir=Path(about["app_dir"]),
        nodes=about["nodes"],
        backend=about["backend"],
        workers=None,
        seed=about["seed"],
        overrides=[],
        runs_dir=folder.parent,
        resume=folder,
    )
    return run_app(request, as_json=as_json, quiet=quiet)


def run_app(request: RunRequest, *, as_json: bool, quiet: bool) -> int:
    """Simulate the app and return the exit status of the command."""
    if request.resume is None:
        run_id, history = new_run_id(SYSTEM_CLOCK.now()), RunHistory()
        run_dir = request.runs_dir / run_id
    else:
        run_dir, run_id = request.resume, request.resume.name
        history = read_history(run_dir)
        # What comes of it is to be told, not what came of it before.
        history.status, history.learning_began = "unfinished", False
    out = console(stderr=as_json)
    error: BaseException | None = None
    with _stdout_for_json_alone() if as_json else nullcontext():
        try:
            with ended_by_sigterm():
                _simulate(request, run_id, run_dir, history, _display(out, history, quiet))
        except (Exception, KeyboardInterrupt) as caught:
            error = caught
    if error is not None:
        print_error(error, request.app_dir.resolve())
        if history.status == "failed":
            console(stderr=True).print(f"The whole traceback: umbel show {run_id}")
    elif not quiet:
        _print_summary(out, history, run_dir)
    if as_json:
        print_json(_answer(history, error, run_dir))
    if error is not None:
        return exit_status(error, learning_began=history.learning_began)
    return 0 if history.status == "succeeded" else FAILED


def _simulate(
    request: RunRequest, run_id: str, run_dir: Path, history: RunHistory, display: PlainDisplay
) -> None:
    project = AppProject.read(request.app_dir).with_overrides(request.overrides)
    # The server's side of the package loads while nothing runs yet, so it is imported only here.
    from umbel.simulation import run_simulation

    wishes = project.simulation
    backend_config: dict[str, Any] = {}
    if wishes.client_resources:
        backend_config["client_resources"] = wishes.client_resources
    if request.workers is not None:
        backend_config["workers"] = request.workers

    def observe(event: RunEvent) -> None:
        history.apply(event.name, event.data)
        display.update(event.name, event.data)

    with display:
        run_simulation(
            server_app=project.components["serverapp"],
            client_app=project.components["clientapp"],
            num_supernodes=request.nodes or wishes.nodes,
            backend_name=request.backend or wishes.backend,
            backend_config=backend_config,
            # A seed drawn here is one that the user can be told.
            seed=Seeds(request.seed).seed,
            run_config=project.run_config,
            run_dir=run_dir,
            run_id=run_id,
            app_name=project.name,
            app_dir=project.root,
            observers=[observe],
            setup="umbel.flwr:install" if "flwr" in project.tools else None,
            resumable=request.resumable,
            resume=request.resume is not None,
        )


def _display(out: Console, history: RunHistory, quiet: bool) -> PlainDisplay:
    if quiet or not out.file.isatty():
        return PlainDisplay(out, history, show_rounds=not quiet)
    return LiveDisplay(out, history)


@contextmanager
def _stdout_for_json_alone() -> Iterator[None]:
    """Send what the app and its workers print to stderr, also below Python's own streams."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _print_summary(out: Console, history: RunHistory, run_dir: Path) -> None:
    style = STATUS_STYLES.get(history.status, "yellow")
    seconds = f" in {history.seconds:.2f} s" if history.seconds is not None else ""
    failures = len(history.failures)
    out.print(
        f"[{style}]{history.status}[/]{seconds}: {history.rounds} rounds, {failures} failures, "
        f"seed {history.about.get('seed')}",
    )
    if history.metrics:
        out.print(last_round_table(history))
    if history.privacy is not None:
        out.print(privacy_text(history), markup=False, soft_wrap=True)
    out.print(f"{run_dir}  (umbel show {run_dir.name})", soft_wrap=True)


def _answer(history: RunHistory, error: BaseException | None, run_dir: Path) -> dict[str, Any]:
    facts = history.as_json() | {"run_dir": str(run_dir)}
    if error is not None:
        # What never began has no facts but the error.
        return error_as_json(error) | (facts if history.about else {})
    return {"success": history.status == "succeeded"} | facts
