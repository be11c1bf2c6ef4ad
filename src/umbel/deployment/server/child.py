"""The process of one run's server app: ``python -m umbel.deployment.server.child SOCKET RUN``.

It is a child of the server and ends with it; a server that starts again starts it again, and the
run goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from umbel.base import AppLoadError, Seeds, die_with_parent, load_object, set_up
from umbel.deployment.channel import open_blocking_channel
from umbel.deployment.server.hosting import carry_through, run_app
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import ServerAppsStub
from umbel.serverapp import Grid, Run, ServerApp, read_log
from umbel.store import ObjectStore


class Interrupted(BaseException):
    """The server asked this process to end."""


def main(arguments: list[str]) -> int:
    """Run the server app of one run; return the process's exit status."""
    socket, run_id = arguments
    die_with_parent()
    signal.signal(signal.SIGTERM, _interrupt)
    with open_blocking_channel(f"unix:{socket}") as channel:
        stub = ServerAppsStub(channel)
        begin = stub.Begin(wire.BeginRequest(run_id=run_id), wait_for_ready=True, timeout=30)
        status, detail = "succeeded", ""
        try:
            _serve(begin, stub)
        except Interrupted:
            return 128 + signal.SIGTERM
        except Exception as error:
            traceback.print_exc()
            status, detail = "failed", f"{type(error).__name__}: {error}"
        stub.End(wire.EndRequest(run_id=run_id, status=status, detail=detail), timeout=60)
    return 0 if status == "succeeded" else 1


def _interrupt(signum: int, frame: Any) -> None:
    raise Interrupted


def _serve(begin: wire.BeginReply, stub: ServerAppsStub) -> None:
    config: dict[str, Any] = json.loads(begin.run.run_config or "{}")
    folder = Path(begin.run_dir)
    log = folder / "log.jsonl"
    resume = log.exists()
    if resume and any(entry.event == "run_finished" for entry in read_log(log)):
        return  # The process was killed between the end of the run and saying so.
    run = Run(
        begin.run.run_id,
        Seeds(begin.run.seed),
        config,
        folder,
        resume=resume,
        resumable=True,
    )
    nodes = len(stub.ConnectedNodes(wire.NodesRequest(run_id=run.run_id)).node_ids)
    began = {"app": begin.run.app_name, "app_dir": begin.app_dir, "nodes": nodes}
    carry_through(run, began, lambda: _run_main(begin, run, stub), pauses=Interrupted)


def _run_main(begin: wire.BeginReply, run: Run, stub: ServerAppsStub) -> tuple[Any, Grid]:
    """Load the server app and run its main function."""
    set_up(begin.run.setup or None)
    app = load_object(begin.server_app, Path(begin.app_dir))
    if not isinstance(app, ServerApp):
        raise AppLoadError(
            f"the server app is a {type(app).__name__}, not a ServerApp",
            hint="name the ServerApp object itself",
            app=begin.server_app,
        )
    objects = ObjectStore(Path(begin.objects_dir))
    return run_app(app, run, stub, objects, seeded=begin.run.seeded)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
