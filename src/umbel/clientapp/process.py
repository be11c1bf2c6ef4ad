"""A process that runs a client app for one run: ``python -m umbel.clientapp.process``.

A node's agent starts it. It holds no connection, loads nothing that connections need, and decides
nothing. The agent writes a line of JSON for each task into a socket and gets a line back; bodies
and states are files. It ends with the agent.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import signal
import socket
import sys
import traceback
from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from umbel.base import Seeds, die_with_parent, load_object, set_threads, set_up
from umbel.clientapp.app import ClientApp
from umbel.clientapp.serving import ErrorFields, error_fields, serve
from umbel.records import Context, ErrorCode, RecordDict, decode, encode

_REASON_MAX_CHARS = 8_000


class _Envelope(NamedTuple):
    message_id: str
    message_type: str
    group_id: str
    created_at: float
    ttl: float


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
            _say(out, _told(error_fields(error, ErrorCode.LOAD_CLIENT_APP_EXCEPTION)))
            return 1
        _say(out, {"ready": True})
        seeds = None if run["seed"] is None else Seeds(run["seed"])
        for line in lines:
            answer = _answer(app, run, json.loads(line), seeds)
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


def _answer(
    app: ClientApp, run: dict[str, Any], task: dict[str, Any], seeds: Seeds | None
) -> dict[str, Any]:
    """Run one task; write its reply and its state, and say what came of it."""
    try:
        content = _content(task)
        state = Path(task["state"])
        known = state.exists()
        context = Context(
            run_id=run["run_id"],
            node_id=run["node_id"],
            node_config=dict(run["node_config"]),
            state=decode(_mapped(state)) if known else RecordDict(),
            run_config=dict(run["run_config"]),
        )
    except Exception as error:
        return _told(error_fields(error, ErrorCode.MESSAGE_UNAVAILABLE))
    answer = serve(app, content, _Envelope(*task["envelope"]), context, seeds, with_body=True)
    if answer.error is not None or answer.body is None:
        return _told(answer.error or (int(ErrorCode.UNKNOWN), None, None, None))
    try:
        has_state = answer.state is not None or known
        if has_state:
            _write(Path(task["new_state"]), answer.state or encode(RecordDict()))
        size, digest = _write(Path(task["reply"]), answer.body)
    except OSError as error:
        return _told(error_fields(error, ErrorCode.REPLY_MESSAGE_UNAVAILABLE))
    return {"size_bytes": size, "hash": digest, "has_state": has_state}


def _content(task: dict[str, Any]) -> RecordDict:
    content = RecordDict()
    if task["body"] is not None:
        content = decode(_mapped(Path(task["body"])))
    if task["records"]:
        for name, record in decode(b64decode(task["records"])).items():
            content[name] = record
    return content


def _mapped(path: Path) -> memoryview:
    """Return the bytes of a file without reading them; they stay when its name goes."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _write(path: Path, buffers: Iterable[bytes | memoryview]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as file:
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            digest.update(view)
            while view:
                written = file.write(view)
                size += written
                view = view[written:]
    return size, digest.hexdigest()


def _told(fields: ErrorFields) -> dict[str, Any]:
    """Return what the agent is told of an error; the traceback goes to the node's log alone."""
    code, reason, kind, trace = fields
    if trace:
        print(trace, end="", file=sys.stderr)
    return {"failure": [code, kind or "", (reason or "")[:_REASON_MAX_CHARS]]}


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
