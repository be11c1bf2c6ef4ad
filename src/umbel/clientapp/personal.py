"""Mod that keeps personal layers at the client."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.base import UsageError
from umbel.clientapp.onion import Handler, Mod
from umbel.records import ArrayRecord, Context, Message
from umbel.updates import checked_patterns, matches

PERSONAL_STATE = "personal-layers"
"""The record of the node's state with the personal arrays."""


def personal_layers_mod(personal: Sequence[str], *, record: str = "arrays") -> Mod:
    """Return a mod that keeps the arrays whose names match at the client (FedPer, FedRep, FedBN).

    The handler sees a whole model: the shared arrays as the server sent them, the personal ones as
    this node left them after its last training. In its reply the personal ones are missing; where
    it trained they lie in the node's state. The strategy is ``FedPer`` or ``FedBN``.

    Parameters
    ----------
    personal : sequence of str
        Patterns of array names: ``["head.*"]``.
    record : str, default="arrays"
        The name of the record with the model, in messages and replies.

    Raises
    ------
    UsageError
        There is no pattern. When a message is handled: a reply to training carries none of the
        personal arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from umbel.clientapp import ClientApp
    >>> from umbel.records import RecordDict
    >>> app = ClientApp(mods=[personal_layers_mod(["head"])])
    >>> @app.train()
    ... def train(message, context):
    ...     arrays = {k: v + 1 for k, v in message.content["arrays"].views().items()}
    ...     return Message(RecordDict({"arrays": ArrayRecord(arrays)}), reply_to=message)
    >>> model = ArrayRecord({"body": np.zeros(1), "head": np.zeros(1)})
    >>> context = Context("run", 1)
    >>> list(app(Message(RecordDict({"arrays": model}), 1, "train"), context).content["arrays"])
    ['body']
    >>> context.state["personal-layers"]["head"].view().tolist()
    [1.0]
    """
    patterns = checked_patterns(personal, "personal")
    if not patterns:
        raise UsageError("personal is empty", hint='write ["head.*"]')

    def keep_personal(message: Message, context: Context, call_next: Handler) -> Message:
        own = context.state.array_records.get(PERSONAL_STATE)
        if message.has_content() and own is not None:
            content = message.content.copy()
            arrays = content.array_records.get(record)
            if arrays is not None:
                arrays.update({key: array for key, array in own.items() if key in arrays})
            message.content = content
        reply = call_next(message, context)
        if not reply.has_content() or record not in reply.content.array_records:
            return reply
        content = reply.content.copy()
        arrays = content.array_records[record]
        taken = {key: arrays.pop(key) for key in list(arrays) if matches(key, patterns)}
        if message.metadata.message_type.startswith("train"):
            if not taken:
                raise UsageError(
                    "the reply carries none of the personal arrays",
                    hint="reply with the whole model, or mend the patterns",
                    personal=list(patterns),
                )
            # Copies: the handler may go on with the model that it replied with.
            copies = {key: array.numpy() for key, array in taken.items()}
            context.state[PERSONAL_STATE] = ArrayRecord(copies)
        reply.content = content
        return reply

    return keep_personal
