"""One task at a node: its files read, the app asked, its reply and its state written."""

from __future__ import annotations

import sys
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from umbel.base import Seeds, mapped, write_hashed
from umbel.clientapp.app import ClientApp
from umbel.clientapp.serving import ErrorFields, error_fields, serve
from umbel.records import Context, ErrorCode, RecordDict, codec_of, decode, encode

_REASON_MAX_CHARS = 8_000


class _Envelope(NamedTuple):
    message_id: str
    message_type: str
    group_id: str
    created_at: float
    ttl: float


def answer_task(
    app: ClientApp, run: dict[str, Any], task: dict[str, Any], seeds: Seeds | None
) -> dict[str, Any]:
    """Run one task; write its reply and its state, and say what came of it.

    Parameters
    ----------
    app : ClientApp
        The app.
    run : dict
        What the agent says of the run: ``run_id``, ``node_id``, ``node_config``, ``run_config``.
    task : dict
        The task: its ``envelope``, small ``records`` in base64, the ``codec`` of these, of the body
        and of the reply, and the paths of its ``body``, of the ``state`` before it, and of the
        ``new_state`` and the ``reply`` to write.
    seeds : Seeds or None
        The run's, if clients are seeded.

    Returns
    -------
    dict
        ``size_bytes`` and ``hash`` of the reply and ``has_state``; or ``failure``: code, kind and
        reason.
    """
    try:
        body = None if task["body"] is None else mapped(Path(task["body"]))
        content = message_content(body, b64decode(task["records"]), task["codec"])
        state = Path(task["state"])
        known = state.exists()
        context = Context(
            run_id=run["run_id"],
            node_id=run["node_id"],
            node_config=dict(run["node_config"]),
            state=decode(mapped(state)) if known else RecordDict(),
            run_config=dict(run["run_config"]),
        )
    except Exception as error:
        return told(error_fields(error, ErrorCode.MESSAGE_UNAVAILABLE))
    envelope = _Envelope(*task["envelope"])
    answer = serve(app, content, envelope, context, seeds, with_body=True, codec=task["codec"])
    if answer.error is not None or answer.body is None:
        return told(answer.error or (int(ErrorCode.UNKNOWN), None, None, None))
    try:
        has_state = answer.state is not None or known
        if has_state:
            _write(Path(task["new_state"]), answer.state or encode(RecordDict()))
        size, digest = _write(Path(task["reply"]), answer.body)
    except OSError as error:
        return told(error_fields(error, ErrorCode.REPLY_MESSAGE_UNAVAILABLE))
    return {"size_bytes": size, "hash": digest, "has_state": has_state}


def message_content(body: bytes | memoryview | None, records: bytes, codec: str = "") -> RecordDict:
    """Return the content of a message as it travels: the records of two files together.

    Parameters
    ----------
    body : bytes-like or None
        The file with the arrays, which many messages share.
    records : bytes
        The small file with the other records; empty for none.
    codec : str
        The codec of both; the default one if it is empty.

    Raises
    ------
    ProtocolError
        They are not what they should be.
    """
    form = codec_of(codec)
    content = RecordDict() if body is None else form.decode(body)
    if records:
        for name, record in form.decode(records).items():
            content[name] = record
    return content


def _write(path: Path, buffers: Iterable[bytes | memoryview]) -> tuple[int, str]:
    with path.open("wb", buffering=0) as file:
        return write_hashed(file, buffers)


def told(fields: ErrorFields) -> dict[str, Any]:
    """Return what the agent is told of an error; the traceback goes to the node's log alone."""
    code, reason, kind, trace = fields
    if trace:
        print(trace, end="", file=sys.stderr)
    return {"failure": [code, kind or "", (reason or "")[:_REASON_MAX_CHARS]]}
