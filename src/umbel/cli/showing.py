"""``umbel ls``, ``umbel show`` and ``umbel rm``: what runs left behind."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from umbel.base import ConfigError, ProtocolError
from umbel.cli.display import failure_text
from umbel.cli.history import RunHistory, find_run, read_history, run_folders
from umbel.cli.problems import print_json
from umbel.cli.tables import (
    STATUS_STYLES,
    app_name,
    console,
    headline_metrics,
    metrics_text,
    number,
    privacy_text,
    rounds_table,
)
from umbel.serverapp import Checkpoints, read_log

_FAILURES_SHOWN = 20


def print_runs(runs_dir: Path, as_json: bool) -> None:
    """List the runs in a folder, the newest first; a run that cannot be read is named as such."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rows = []
    for folder in run_folders(runs_dir):
        try:
            rows.append((folder, read_history(folder)))
        except ConfigError:
            rows.append((folder, RunHistory(status="unreadable")))
    if as_json:
        runs = [history.as_json() | {"run-id": folder.name} for folder, history in rows]
        print_json({"success": True, "runs": runs})
        return
    out = console()
    if not rows:
        out.print(f"No runs in {runs_dir}. Make one with: umbel run APP")
        return
    table = Table("run", "app", "status", "rounds", "last metrics", box=SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for folder, history in rows:
        table.add_row(
            folder.name,
            app_name(history),
            Text(history.status, style=STATUS_STYLES.get(history.status, "dim")),
            f"{history.rounds}/{history.num_rounds}",
            metrics_text(headline_metrics(history)),
        )
    out.print(table)


def remove_run(name: str, runs_dir: Path, as_json: bool, *, force: bool) -> None:
    """Remove the folder of a run; one that may be going on only by force.

    Raises
    ------
    ConfigError
        The run has not ended, as far as its log tells, or a process is at work on it.
    """
    folder = find_run(name, runs_dir).resolve()
    if not force and read_history(folder).status == "unfinished":
        raise ConfigError(
            "the log does not say that the run has ended: it is going on, or was killed",
            hint="end it first; if no process of it is left: --force",
            run=folder.name,
        )
    if (folder / "checkpoints").exists():
        Checkpoints(folder / "checkpoints").close()  # or else another process is at work on it
    shutil.rmtree(folder)
    if as_json:
        print_json({"success": True, "run-id": folder.name, "status": "removed"})
    else:
        console().print(f"{folder.name} removed")


def print_run(name: str, runs_dir: Path, as_json: bool) -> None:
    """Show one run."""
    folder = find_run(name, runs_dir)
    history = read_history(folder)
    problem = _problem_of(folder / "log.jsonl")
    if as_json:
        print_json(
            {"success": True}
            | history.as_json()
            | {
                "run_config": history.about.get("run_config", {}),
                "metrics_by_round": history.metrics,
                "failures": history.failures,
                "round_seconds": history.round_seconds,
                "error": history.error,
                "traceback": history.traceback,
                "log": {"whole": problem is None, "problem": problem},
                "run_dir": str(folder),
            }
        )
        return
    _print_facts(folder, history, problem)


def _problem_of(log: Path) -> str | None:
    """Return what is wrong with the chain of hashes, or None."""
    from umbel.serverapp import read_log

    try:
        for _ in read_log(log):
            pass
    except ProtocolError as error:
        return f"line {error.context['line']}: {error.message}"
    return None


def _print_facts(folder: Path, history: RunHistory, problem: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    status = Text(history.status, style=STATUS_STYLES.get(history.status, "dim"))
    facts.add_row("run", str(history.about.get("run_id", folder.name)))
    facts.add_row("status", status.append(f": {history.error}" if history.error else ""))
    for key in ("app", "seed", "backend", "nodes"):
        facts.add_row(key, str(history.about.get(key, "")))
    settings = history.about.get("run_config", {})
    facts.add_row("config", "\n".join(f"{key} = {value}" for key, value in settings.items()))
    if history.started_at is not None:
        moment = datetime.fromtimestamp(history.started_at, UTC)
        facts.add_row("started", f"{moment:%Y-%m-%d %H:%M:%S} UTC")
    if history.stopped is not None:
        facts.add_row("stopped", history.stopped)
    if history.privacy is not None:
        facts.add_row("privacy", Text(privacy_text(history)))
    facts.add_row("seconds", number(history.seconds))
    facts.add_row("model", history.model_sha256 or "none")
    facts.add_row("folder", str(folder))
    facts.add_row("log", problem or "whole: every line follows from the one before")
    out.print(facts)
    out.print(rounds_table(history))
    for failure in history.failures[:_FAILURES_SHOWN]:
        out.print(failure_text(failure))
    if len(history.failures) > _FAILURES_SHOWN:
        out.print(f"... and {len(history.failures) - _FAILURES_SHOWN} more (--json has all)")
    traced = next((failure for failure in history.failures if failure.get("traceback")), None)
    if traced is not None:
        out.print(f"\nThe first of these, on node {traced['node_id']}:")
        out.print(traced["traceback"], soft_wrap=True)
    if history.traceback:
        out.print(history.traceback, soft_wrap=True)


def verify_run(name: str, runs_dir: Path, as_json: bool) -> None:
    """Say whether the log of a run is whole; raise if it was changed."""
    folder = find_run(name, runs_dir)
    entries = list(read_log(folder / "log.jsonl"))
    if not entries:
        raise ConfigError("the log of the run is empty", run=folder.name)
    last = entries[-1]
    if as_json:
        facts = {"run-id": folder.name, "entries": last.seq + 1, "last-hash": last.hash}
        print_json({"success": True, **facts})
    else:
        console().print(f"{folder.name}: {last.seq + 1} entries, whole; the last is {last.hash}")
