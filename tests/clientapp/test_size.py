"""message_size_mod logs the size of the encoded bodies."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from umbel.clientapp import ClientApp, message_size_mod
from umbel.records import (
    ArrayRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    encode,
    size_bytes,
)


def run(answer: RecordDict | Error, level: int, caplog: pytest.LogCaptureFixture) -> RecordDict:
    app = ClientApp(mods=[message_size_mod])
    app.train()(lambda message, context: Message(answer, reply_to=message))
    context = Context(run_id="r", node_id=5, node_config={}, state=RecordDict(), run_config={})
    content = RecordDict({"arrays": ArrayRecord([np.zeros(100)])})
    with caplog.at_level(level, logger="umbel.clientapp"):
        app(Message(content, 5, "train"), context)
    return content


def test_bytes_in_and_out(caplog: pytest.LogCaptureFixture) -> None:
    answer = RecordDict({"metrics": MetricRecord({"loss": 0.5})})
    content = run(answer, logging.INFO, caplog)
    into, out = size_bytes(encode(content)), size_bytes(encode(answer))
    assert into > 800
    assert caplog.messages == [f"node 5, train message: {into} bytes in, {out} bytes out"]
    assert caplog.records[0].name == "umbel.clientapp"


def test_error_replies(caplog: pytest.LogCaptureFixture) -> None:
    run(Error(2, "no data"), logging.INFO, caplog)
    assert caplog.messages[0].endswith("bytes in, an error out")


def test_silent_while_the_level_is_off(caplog: pytest.LogCaptureFixture) -> None:
    run(RecordDict(), logging.WARNING, caplog)
    assert caplog.messages == []
