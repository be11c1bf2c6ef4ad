"""A process that runs a client app for one run: ``python -m umbel.clientapp.process``.

A node's agent starts it. It holds no connection, loads nothing that connections need, and decides
nothing. The agent writes a line of JSON for each task into a socket and gets a line back; bodies
and states are files. It ends with the agent.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from umbel.base import Seeds, die_with_parent, load_object, set_threads, set_up
from umbel.clientapp.app import ClientApp
from umbel.clientapp.serving import error_fields
from umbel.clientapp.tasks import answer_task, told
from umbel.records import ErrorCode


def main(arguments: list[str]) -> int:
    """Serve the agent at the other end of a socket until it hangs up."""
    fd, parent = map(int, arguments)
    die_with_parent()
    if os.getppid() != parent:
        return 1  # it was gone before we asked to go with it
    channel = socket.socket(fileno=fd)
    # What a client starts must not keep the channel open: the agent would not see this one die.
    channel.set_inheritable(False)
    os.register_at_fork(after_in_child=channel.close)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the agent, which ends us
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with channel, channel.makefile("rb") as lines, channel.makefile("wb") as out:
        run = json.loads(lines.readline())
        try:
            app = _loaded(run)
        except BaseException as error:
            _say(out, told(error_fields(error, ErrorCode.LOAD_CLIENT_APP_EXCEPTION)))
            return 1
        _say(out, {"ready": True})
        seeds = None if run["seed"] is None else Seeds(run["seed"])
        for line in lines:
            answer = answer_task(app, run, json.loads(line), seeds)
            _flush()
            _say(out, answer)
    return 0


def _loaded(run: dict[str, Any]) -> ClientApp:
    if run["threads"] is not None:
        set_threads(run["threads"])
    set_up(run["setup"])
    app = load_object(run["client_app"], Path(run["app_dir"]))
    if not isinstance(app, ClientApp):
        raise TypeError(f"{run['client_app']} is a {type(app).__name__}, not a ClientApp")
    return app


def _say(out: IO[bytes], answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer).encode() + b"\n")
    out.flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # the app may have closed it
            stream.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # the agent is gone
    except Exception:
        traceback.print_exc()
        sys.exit(1)
