"""timing_mod: where the metric goes."""

from __future__ import annotations

from umbel.base import SYSTEM_CLOCK
from umbel.clientapp import ClientApp, timing_mod
from umbel.records import Context, Error, Message, MetricRecord, RecordDict


def run(answer: RecordDict | Error) -> Message:
    app = ClientApp(mods=[timing_mod])
    app.train()(lambda message, context: Message(answer, reply_to=message))
    context = Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})
    return app(Message(RecordDict(), 1, "train"), context)


def test_in_the_only_metric_record_of_any_name() -> None:
    answer = RecordDict({"results": MetricRecord({"num-examples": 3})})
    before = SYSTEM_CLOCK.monotonic()
    content = run(answer).content
    elapsed = SYSTEM_CLOCK.monotonic() - before
    assert list(content) == ["results"]
    assert list(content["results"]) == ["num-examples", "handler-time-s"]
    assert 0.0 <= content["results"]["handler-time-s"] <= elapsed


def test_the_record_that_the_handler_keeps_is_not_changed() -> None:
    answer = RecordDict({"metrics": MetricRecord({"num-examples": 3})})
    run(answer)
    assert list(answer["metrics"]) == ["num-examples"]


def test_in_a_record_of_its_own_when_there_is_no_only_one() -> None:
    assert list(run(RecordDict()).content["timing"]) == ["handler-time-s"]
    two = RecordDict({"a": MetricRecord({"n": 1}), "b": MetricRecord({"n": 2})})
    content = run(two).content
    assert list(content) == ["a", "b", "timing"]
    assert list(content["timing"]) == ["handler-time-s"]


def test_error_replies_stay() -> None:
    reply = run(Error(2, "no data"))
    assert reply.has_error()
    assert reply.error.reason == "no data"
