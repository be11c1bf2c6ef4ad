"""What users do with a server: connect, run, watch, stop, resume, pull."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from umbel.base import SYSTEM_CLOCK, AppProject, ConfigError, Seeds
from umbel.cli.display import PlainDisplay
from umbel.cli.history import RunHistory
from umbel.cli.problems import FAILED, print_json
from umbel.cli.tables import STATUS_STYLES, console, last_round_table, privacy_text

if TYPE_CHECKING:
    from umbel.deployment import UserClient


def add_connection(
    name: str,
    *,
    token: str | None,
    address: str | None,
    insecure: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Remember a server, joining it first if a token is given."""
    from umbel.deployment import Connection, Connections, JoinToken, join

    connections = Connections()
    if token is not None:
        if insecure or address:
            raise ConfigError("a token says where to connect", hint="give --join alone")
        # Before the token is used, and before the key of another connection is overwritten.
        connections.check_free(name, replace=replace)
        grant = JoinToken.decode(token)
        if grant.role == "node":
            raise ConfigError(
                "the token is for a node, not for a user",
                hint="for a user: umbel token create --role user --name alice",
            )
        folder = connections.identity_dir(name)
        identity = join(grant, folder, getpass.getuser())
        connection = Connection(name, identity.address, identity_dir=folder)
    elif address and insecure:
        connection = Connection(name, address, insecure=True)
    else:
        raise ConfigError(
            "how is the server to be reached?",
            hint="--join TOKEN, or for a server without TLS: --address HOST:PORT --insecure",
        )
    connections.add(connection, replace=replace)
    if as_json:
        print_json({"success": True, "name": name, "address": connection.address})
        return
    console().print(
        Text.assemble(
            (name, "green"),
            f" is {connection.address}. Run an app: umbel run APP --on {name}",
        )
    )


def print_connections(as_json: bool) -> None:
    """List the connections."""
    from umbel.deployment import Connections

    known = Connections().list()
    if as_json:
        facts = [{"name": c.name, "address": c.address, "insecure": c.insecure} for c in known]
        print_json({"success": True, "connections": facts})
        return
    for connection in known:
        plain = "  (no TLS)" if connection.insecure else ""
        console().print(f"{connection.name}  {connection.address}{plain}")
    if not known:
        console().print("No connections. Add one with: umbel connect NAME --join TOKEN")


def client(name: str | None) -> UserClient:
    """Return a client of the named connection, or of the only one there is."""
    from umbel.deployment import Connections, UserClient

    connections = Connections()
    if name is None:
        known = [connection.name for connection in connections.list()]
        if len(known) != 1:
            raise ConfigError(
                "which server is meant?",
                hint=f"--on NAME; known: {', '.join(known) or 'none, see umbel connect'}",
            )
        name = known[0]
    return UserClient(connections.load(name))


def run_remotely(
    app_dir: Path,
    on: str,
    overrides: list[str],
    seed: int | None,
    key_file: Path | None,
    *,
    stream: bool,
    as_json: bool,
) -> int:
    """Send the app to a server and start it; follow it if asked. Return the exit status."""
    from umbel.deployment import read_signing_key

    project = AppProject.read(app_dir).with_overrides(overrides)
    key = None if key_file is None else read_signing_key(key_file)
    with client(on) as server:
        state = server.submit(
            project, seed=Seeds(seed).seed, seeded=seed is not None, signing_key=key
        )
        if not stream:
            if as_json:
                print_json({"success": True, "run-id": state.run_id, "status": state.status})
            else:
                console().print(
                    f"{state.run_id} {state.status}  (umbel log {state.run_id} --on {on} --follow)"
                )
            return 0
        return _follow(server, state.run_id, as_json=as_json)


def print_log(run: str, on: str | None, *, follow: bool, as_json: bool) -> int:
    """Print the log of a run; with ``follow`` until it ends. Return the exit status."""
    with client(on) as server:
        run_id = _find(server, run)
        if as_json:
            for entry in server.watch(run_id, follow=follow):
                print_json(entry)
            return 0
        if follow:
            return _follow(server, run_id, as_json=False)
        for entry in server.watch(run_id, follow=False):
            at = datetime.fromtimestamp(entry["at"], UTC).strftime("%H:%M:%S")
            facts = " ".join(f"{key}={json.dumps(value)}" for key, value in entry["data"].items())
            console().print(f"{at} {entry['event']} {facts}", soft_wrap=True)
        return 0


def _follow(server: UserClient, run_id: str, *, as_json: bool) -> int:
    out = console(stderr=as_json)
    history = RunHistory()
    with PlainDisplay(out, history) as display:
        for entry in server.watch(run_id, follow=True):
            history.apply(entry["event"], entry["data"])
            display.update(entry["event"], entry["data"])
    state = next(state for state in server.runs() if state.run_id == run_id)
    if as_json:
        facts = history.as_json() | {"run-id": run_id, "status": state.status}
        print_json({"success": state.status == "succeeded", **facts})
    else:
        style = STATUS_STYLES.get(state.status, "yellow")
        seconds = f" in {history.seconds:.2f} s" if history.seconds is not None else ""
        detail = f": {state.detail}" if state.detail else ""
        out.print(Text.assemble((state.status, style), seconds, detail))
        if history.metrics:
            out.print(last_round_table(history))
        if history.privacy is not None:
            out.print(privacy_text(history), soft_wrap=True)
        model = "the model, " if state.status == "succeeded" else ""
        out.print(f"umbel pull {run_id} fetches {model}the metrics and the log", soft_wrap=True)
    return 0 if state.status == "succeeded" else FAILED


def stop_run(run: str, on: str | None, as_json: bool) -> None:
    """End a run on a server."""
    with client(on) as server:
        _print_state(server.stop(_find(server, run)), as_json)


def resume_run(run: str, on: str | None, as_json: bool) -> None:
    """Let a run on a server go on."""
    with client(on) as server:
        _print_state(server.resume(_find(server, run)), as_json)


def remove_remote_run(run: str, on: str, as_json: bool) -> None:
    """Have a server forget a run that is over."""
    with client(on) as server:
        removed = server.remove(_find(server, run))
    if as_json:
        print_json({"success": True, **_facts(removed)})
    else:
        console().print(f"{removed.run_id} removed")


def pull_run(run: str, on: str | None, out: Path | None, as_json: bool) -> None:
    """Fetch what a run left behind."""
    with client(on) as server:
        run_id = _find(server, run)
        folder = out or Path("runs") / run_id
        files = server.pull(run_id, folder)
    if as_json:
        print_json({"success": True, "run-id": run_id, "files": [str(file) for file in files]})
        return
    for file in files:
        console().print(f"{file}  {file.stat().st_size:,} bytes", soft_wrap=True)


def print_remote_runs(on: str, as_json: bool) -> None:
    """List the runs on a server, the newest first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    with client(on) as server:
        runs = sorted(server.runs(), key=lambda run: run.submitted_at, reverse=True)
    if as_json:
        print_json({"success": True, "runs": [_facts(run) for run in runs]})
        return
    table = Table("run", "app", "status", "owner", "detail", box=SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for run in runs:
        status = Text(run.status, style=STATUS_STYLES.get(run.status, "dim"))
        table.add_row(run.run_id, run.app_name, status, run.owner, run.detail)
    console().print(table if runs else f"No runs on {on}.")


def print_nodes(on: str | None, as_json: bool) -> None:
    """List the nodes of a server."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    with client(on) as server:
        nodes = server.nodes()
    if as_json:
        facts = [
            {
                "node-id": node.node_id,
                "name": node.name,
                "status": node.status,
                "tags": dict(node.tags),
                "last-seen-at": node.last_seen_at,
                "software": node.software,
                "tasks": node.tasks,
            }
            for node in nodes
        ]
        print_json({"success": True, "nodes": facts})
        return
    table = Table("node", "name", "status", "tasks", "last seen", "tags", box=SIMPLE_HEAD)
    for node in nodes:
        ago = f"{SYSTEM_CLOCK.now() - node.last_seen_at:.0f} s ago" if node.last_seen_at else ""
        tags = " ".join(f"{key}={value}" for key, value in sorted(node.tags.items()))
        table.add_row(str(node.node_id), node.name, node.status, str(node.tasks), ago, tags)
    console().print(table if nodes else "No nodes have joined.")


def revoke_node(node_id: int, on: str | None, as_json: bool) -> None:
    """Shut a node out for good."""
    with client(on) as server:
        node = server.revoke(node_id)
    if as_json:
        print_json({"success": True, "node-id": node.node_id, "status": node.status})
    else:
        console().print(f"node {node.node_id} ({node.name}) is {node.status}")


def _find(server: UserClient, run: str) -> str:
    """Return the id of the run that is meant: its id, the start of one, or "latest"."""
    runs = sorted(server.runs(), key=lambda state: state.submitted_at)
    if run == "latest" and runs:
        return runs[-1].run_id
    found = [state.run_id for state in runs if run and state.run_id.startswith(run)]
    if run in found or len(found) == 1:
        return run if run in found else found[0]
    raise ConfigError(
        f"{run!r} names {len(found) or 'no'} runs there",
        hint=", ".join(found[:5]) or "see umbel ls --on NAME",
    )


def _facts(run: Any) -> dict[str, Any]:
    return {
        "run-id": run.run_id,
        "app": run.app_name,
        "status": run.status,
        "owner": run.owner,
        "detail": run.detail,
        "submitted-at": run.submitted_at,
    }


def _print_state(run: Any, as_json: bool) -> None:
    if as_json:
        print_json({"success": True, **_facts(run)})
    else:
        detail = f": {run.detail}" if run.detail else ""
        console().print(f"{run.run_id} {run.status}{detail}")
