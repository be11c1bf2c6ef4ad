"""Mod that measures how long a handler takes."""

from __future__ import annotations

from umbel.base import SYSTEM_CLOCK
from umbel.clientapp.onion import Handler
from umbel.records import Context, Message, MetricRecord


def timing_mod(message: Message, context: Context, call_next: Handler) -> Message:
    """Add the seconds that the handler took to the metrics of its reply.

    The metric is called "handler-time-s". It goes into the reply's ``MetricRecord`` if there is
    exactly one, so that it is averaged with the others, and otherwise into a new one named
    "timing". An error reply stays as it is.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> from umbel.records import RecordDict
    >>> app = ClientApp(mods=[timing_mod])
    >>> @app.train()
    ... def train(message, context):
    ...     content = RecordDict({"metrics": MetricRecord({"num-examples": 3})})
    ...     return Message(content, reply_to=message)
    >>> context = Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})
    >>> reply = app(Message(RecordDict(), 1, "train"), context)
    >>> list(reply.content["metrics"])
    ['num-examples', 'handler-time-s']
    """
    started = SYSTEM_CLOCK.monotonic()
    reply = call_next(message, context)
    elapsed = SYSTEM_CLOCK.monotonic() - started
    if reply.has_content():
        # A copy: the handler may keep the records it returned, for instance in the context's state.
        content = reply.content.copy()
        metrics = content.metric_records
        name = next(iter(metrics)) if len(metrics) == 1 else "timing"
        content[name] = MetricRecord({**metrics.get(name, {}), "handler-time-s": elapsed})
        reply.content = content
    return reply
