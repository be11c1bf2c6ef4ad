"""Mod that clips the update at the client, for noise that the server adds."""

from __future__ import annotations

import numpy as np

from umbel.base import RejectedReply, UsageError
from umbel.clientapp.onion import Handler
from umbel.privacy import PerLayer, clip
from umbel.records import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from umbel.updates import Arrays, NDArray, is_whole, sum_dtype

DP_RECORD = "dp"
"""The record with which the server asks for clipping, and the client says what it did."""


def dp_client_mod(message: Message, context: Context, call_next: Handler) -> Message:
    """Reply with the clipped update in place of the trained model.

    The bound stands in the message, where ``umbel.strategies.with_client_dp`` has put it. The
    update is what training has changed in the arrays of floating-point numbers, and stays in the
    precision in which it was clipped. Others see the update only with the server's noise; the
    server itself sees it as it is. Where the bound adapts, the reply tells whether the update was
    within it. Messages without a bound are passed on.

    Raises
    ------
    UsageError
        An array changed its shape or is missing.
    RejectedReply
        The update holds NaN or infinity.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> from umbel.records import RecordDict
    >>> app = ClientApp(mods=[dp_client_mod])
    >>> @app.train()
    ... def train(message, context):
    ...     arrays = ArrayRecord({"w": message.content["arrays"]["w"].view() + [3.0, 4.0]})
    ...     return Message(RecordDict({"arrays": arrays}), reply_to=message)
    >>> asked = ConfigRecord({"record": "arrays", "clipping": 2.5})
    >>> model = ArrayRecord({"w": np.ones(2)})
    >>> message = Message(RecordDict({"arrays": model, "dp": asked}), 1, "train")
    >>> reply = app(message, Context("run", 1))
    >>> reply.content["arrays"]["w"].view().round(3).tolist(), dict(reply.content["dp"])
    ([1.5, 2.0], {'record': 'arrays', 'clipping': 2.5})
    """
    asked = message.content.config_records.get(DP_RECORD) if message.has_content() else None
    if asked is None or "record" not in asked or not _is_training(message):
        return call_next(message, context)  # nobody asks, or for private training
    record = str(asked["record"])
    before = lend(message, record)
    message.content.pop(DP_RECORD)
    reply = call_next(message, context)
    if not reply.has_content():
        return reply
    clipped = clip(update_of(before, reply, record), bound_of(asked))
    content = reply.content.copy()
    content[record] = ArrayRecord({key: Array(value) for key, value in clipped.update.items()})
    # What was asked for, as it came, so that it passes a node's policy; more only where it counts.
    told = {"within": clipped.within} if asked.get("adaptive") else {}
    content[DP_RECORD] = ConfigRecord({**asked, **told})
    reply.content = content
    return reply


def check_trained_as_asked(asked: ConfigRecord, reply: RecordDict) -> None:
    """Raise unless a reply says that it trained by the numbers of private training it was sent.

    It cannot be seen in a model, and an app that has never heard of private training says nothing.

    Raises
    ------
    RejectedReply
        It does not have the record that asked for it.
    """
    told = reply.config_records.get(DP_RECORD)
    if told is None or dict(told) != dict(asked):
        raise RejectedReply(
            "it does not say that its client trained by DP-SGD with the numbers asked for",
            hint="train by the numbers in the message's record 'dp', and put it in the reply",
        )


def _is_training(message: Message) -> bool:
    return message.metadata.message_type.startswith("train")


def lend(message: Message, record: str) -> dict[str, NDArray]:
    """Return the arrays of the model, and let the handler have views that it cannot write to.

    It might train in place, and what it changed would then not show.
    """
    before = message.content.array_records[record].views()
    message.content = message.content.copy()
    held = message.content.array_records[record]
    held.update({key: Array(view) for key, view in before.items()})
    return before


def update_of(before: Arrays, reply: Message, record: str) -> dict[str, NDArray]:
    """Return what training has changed in the arrays of floating-point numbers that came back.

    Raises
    ------
    UsageError
        There is no model in the reply, or an array changed its shape.
    """
    if record not in reply.content.array_records:
        raise UsageError(
            f"the reply carries no ArrayRecord {record!r} ({sorted(reply.content)})",
            hint="put the trained model under the name under which it came",
        )
    after = reply.content.array_records[record].views()
    update = {}
    for key, value in after.items():
        old = before.get(key)
        if old is None or old.shape != value.shape:
            raise UsageError(
                "the reply holds an array that is not one of the model's, or has another shape",
                hint="reply with the arrays that came, under their names",
                key=key,
            )
        if not is_whole(old.dtype):
            dtype = sum_dtype(old.dtype)
            with np.errstate(over="ignore", invalid="ignore"):  # clipping looks at the values
                update[key] = np.asarray(np.subtract(value, old, dtype=dtype, casting="unsafe"))
    return update


def bound_of(asked: ConfigRecord) -> float | PerLayer:
    """Return the bound that a message asks for."""
    if "clipping" in asked:
        return float(asked["clipping"])  # type: ignore[arg-type]
    names, bounds = asked["clipping-arrays"], asked["clipping-bounds"]
    return PerLayer(dict(zip(names, bounds, strict=True)))  # type: ignore[arg-type]


def bound_in_words(bound: float | PerLayer) -> ConfigRecord:
    """Return a bound as a message asks for it."""
    if isinstance(bound, PerLayer):
        names, bounds = list(bound.bounds), list(bound.bounds.values())
        return ConfigRecord({"clipping-arrays": names, "clipping-bounds": bounds})
    return ConfigRecord({"clipping": float(bound)})
