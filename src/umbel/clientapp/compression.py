"""Mod that sends updates compressed, and remembers what that left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from umbel.base import Seeds, UsageError
from umbel.clientapp.onion import Handler, Mod
from umbel.records import Array, ArrayRecord, ConfigRecord, Context, Message
from umbel.updates import (
    BATCH_STATISTICS,
    COMPRESSION_RECORD,
    Arrays,
    Compressor,
    NDArray,
    Parts,
    all_finite,
    check_compressor,
    checked_patterns,
    expanded,
    part_name,
    sum_dtype,
    trainable,
)

RESIDUAL_STATE = "compression-residual"
"""The record of the node's state with what was not sent yet."""


def compression_mod(
    compressor: Compressor,
    *,
    error_feedback: bool = True,
    dense: Sequence[str] = BATCH_STATISTICS,
    record: str = "arrays",
) -> Mod:
    """Return a mod that replaces a trained model by its compressed update.

    The update is the model of the reply minus that of the message. With error feedback, what was
    lost the last times is added before, and what is lost now is kept in the node's state: Seide et
    al. 2014; Karimireddy et al. 2019, arXiv:1901.09847. What was sent counts as arrived, whatever
    becomes of the reply. A model that came in a narrower type is
    widened before the handler sees it. The strategy is wrapped by
    ``umbel.strategies.with_compression`` with the same compressor. Put this mod outermost.

    Parameters
    ----------
    compressor : Compressor
        ``TopK``, ``RandomK``, ``SharedRandomK``, ``QSGD``, ``Sign`` or ``Cast`` of
        ``umbel.updates``.
    error_feedback : bool, default=True
        Whether the rest is kept and sent later.
    dense : sequence of str
        Patterns of array names that travel as they are; by default statistics of batch
        normalisation. Whole numbers always do.
    record : str, default="arrays"
        The name of the record with the model.

    Raises
    ------
    UsageError
        When a message is handled: the update holds NaN or infinity, or an array changed its shape.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> from umbel.records import RecordDict
    >>> from umbel.updates import TopK
    >>> app = ClientApp(mods=[compression_mod(TopK(0.25))])
    >>> @app.train()
    ... def train(message, context):
    ...     arrays = ArrayRecord({"w": message.content["arrays"]["w"].view() + np.arange(4.0)})
    ...     return Message(RecordDict({"arrays": arrays}), reply_to=message)
    >>> model = RecordDict({"arrays": ArrayRecord({"w": np.zeros(4)})})
    >>> context = Context("run", 1)
    >>> reply = app(Message(model, 1, "train"), context).content["arrays"]
    >>> {name: array.view().tolist() for name, array in reply.items()}
    {'w::places': [3], 'w::values': [3.0]}
    >>> context.state["compression-residual"]["w"].view().tolist()
    [0.0, 1.0, 2.0, 0.0]
    """
    patterns = checked_patterns(dense, "dense")
    check_compressor(compressor)

    def compress(message: Message, context: Context, call_next: Handler) -> Message:
        _widen(message, record)
        if compressor.keeps_all or not message.metadata.message_type.startswith("train"):
            return call_next(message, context)
        seed = seed_of(message) if compressor.draws_alike else 0
        # Views that nobody can write through, should the handler train in place.
        before = message.content.array_records[record].views()
        message.content = message.content.copy()
        held = message.content.array_records[record]
        held.update({key: Array(view) for key, view in before.items()})
        reply = call_next(message, context)
        if not reply.has_content() or record not in reply.content.array_records:
            return reply
        after = reply.content.array_records[record]
        moving = trainable({k: a.view() for k, a in after.items() if k in before}, patterns)
        codes = {key: compressor.drawn(seed, key) for key in moving}
        sent = {key: array for key, array in after.items() if key not in moving}
        for key, parts in coded(codes, moving, before, context, error_feedback).items():
            sent.update({part_name(key, part): Array(code) for part, code in parts.items()})
        content = reply.content.copy()
        content[record] = ArrayRecord(sent)
        told = {"method": repr(compressor), "error-feedback": error_feedback}
        content[COMPRESSION_RECORD] = ConfigRecord(told)
        reply.content = content
        return reply

    return compress


def coded(
    codes: Mapping[str, Compressor],
    after: Arrays,
    before: Arrays,
    context: Context,
    error_feedback: bool,
) -> dict[str, Parts]:
    """Return the code of what training changed in each array that ``codes`` has one for.

    With error feedback, the record ``RESIDUAL_STATE`` of the node's state is added before, and
    becomes what is lost now.

    Raises
    ------
    UsageError
        The update holds NaN or infinity, or an array changed its shape.
    """
    # From the generator that was seeded for this node and round.
    rng = Seeds().child("compression").numpy()
    state = context.state.array_records.get(RESIDUAL_STATE)
    made: dict[str, Parts] = {}
    lost: dict[str, NDArray] = {}
    for key, compressor in codes.items():
        update = _update(key, before[key], after[key])
        if error_feedback and state is not None and key in state:
            update += state[key].view()
        made[key] = compressor.compress(update.reshape(-1), rng)
        if error_feedback:
            arrived = expanded(compressor, made[key], update.size, update.dtype, shrink=True)
            lost[key] = update - arrived.reshape(update.shape)
    if error_feedback:
        context.state[RESIDUAL_STATE] = ArrayRecord(lost)
    return made


def seed_of(message: Message) -> int:
    """Return what all clients of the round draw by; the handler is not told.

    Raises
    ------
    UsageError
        The server does not say.
    """
    told = message.content.config_records.get(COMPRESSION_RECORD, ConfigRecord())
    seed = told.get("seed")
    if not isinstance(seed, int):
        raise UsageError(
            "the server does not say which entries all clients of this round are to send",
            hint="give with_compression the same compressor: SharedRandomK",
        )
    content = message.content.copy()
    del content[COMPRESSION_RECORD]
    message.content = content
    return seed


def _widen(message: Message, record: str) -> None:
    """Give arrays that came in a narrower type the type that they have on the server."""
    told = message.content.config_records.get("downlink") if message.has_content() else None
    if told is None:
        return
    content = message.content.copy()
    del content["downlink"]
    arrays = content.array_records[record]
    for key, dtype in told.items():
        arrays[key] = arrays[key].view().astype(str(dtype))
    message.content = content


def _update(key: str, before: NDArray, after: NDArray) -> NDArray:
    if before.shape != after.shape:
        raise UsageError(
            f"an array came with shape {before.shape} and was returned with {after.shape}", key=key
        )
    dtype = sum_dtype(before.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        update = np.asarray(np.subtract(after, before, dtype=dtype, casting="unsafe"))
        if not all_finite([update]):
            raise UsageError(
                "the update cannot be compressed: it holds NaN or infinity",
                hint="training diverged there; lower the learning rate or clip gradients",
                key=key,
            )
    return update
