"""Mods that clip and noise at the client, for apps of either of Flower's APIs.

They act on training and pass everything else on. What they miss is said in an error reply.
"""

from __future__ import annotations

from collections.abc import Callable
from logging import WARNING

import numpy as np

from umbel.base import ConfigError, RejectedReply, Seeds, UsageError, fresh_key
from umbel.clientapp import Handler
from umbel.flwr.dp_around import clipped_model
from umbel.flwr.dp_norms import KEY_CLIPPING_NORM, KEY_NORM_BIT
from umbel.flwr.logs import log
from umbel.privacy import NoiseSource, clip, gaussian_sigma
from umbel.records import (
    Array,
    ArrayRecord,
    Context,
    Error,
    ErrorCode,
    Message,
    RecordDict,
)
from umbel.updates import Arrays, NDArray, cast_back, is_whole

OLD_METRICS = "fitres.metrics"

Change = Callable[[Arrays, Arrays, RecordDict], Arrays]
"""``change(model that came, trained model, content of the reply)`` gives the model to send."""


def fixedclipping_mod(msg: Message, ctxt: Context, call_next: Handler) -> Message:
    """Clip the update to the bound that the message tells; the server adds noise.

    The server's side is ``DifferentialPrivacyClientSideFixedClipping``.
    """

    def change(before: Arrays, after: Arrays, content: RecordDict) -> Arrays:
        return clipped_model(before, after, _bound(msg))[0]

    return _changed(msg, ctxt, call_next, change)


def adaptiveclipping_mod(msg: Message, ctxt: Context, call_next: Handler) -> Message:
    """Clip the update to the bound that the message tells, and tell whether it was longer.

    The server's side is ``DifferentialPrivacyClientSideAdaptiveClipping``.
    """

    def change(before: Arrays, after: Arrays, content: RecordDict) -> Arrays:
        clipped, within = clipped_model(before, after, _bound(msg))
        records = content.config_records if OLD_METRICS in content else content.metric_records
        if OLD_METRICS not in content and len(records) != 1:
            raise UsageError(
                f"the reply carries {len(records)} MetricRecords, not one",
                hint="put one under 'metrics'",
            )
        name = OLD_METRICS if OLD_METRICS in content else next(iter(records))
        metrics = records[name].copy()
        metrics[KEY_NORM_BIT] = int(not within)
        content[name] = metrics
        return clipped

    return _changed(msg, ctxt, call_next, change)


class LocalDpMod:
    """Clip the update and add noise to it, so that the server may see it.

    The noise is that of the analytic Gaussian mechanism (Balle and Wang 2018, arXiv:1805.06530),
    which holds for every epsilon; Flower's holds for epsilon below 1. What the handler replies
    beside the model stays as it is, and is not private.

    Parameters
    ----------
    clipping_norm : float
        The bound on the L2 norm of an update.
    sensitivity : float
        How far two updates may be apart: twice the bound, for any two to look alike. Zero for no
        noise.
    epsilon, delta : float
        What one reply costs.

    Raises
    ------
    ConfigError
        A number is out of its range.

    Examples
    --------
    >>> mod = LocalDpMod(clipping_norm=1.0, sensitivity=2.0, epsilon=1.0, delta=1e-5)
    >>> round(mod.noise_std, 3)
    7.461
    """

    def __init__(
        self, clipping_norm: float, sensitivity: float, epsilon: float, delta: float
    ) -> None:
        clip({}, clipping_norm)  # raises
        if sensitivity < 0 or not epsilon > 0:
            raise ConfigError(
                f"sensitivity is not negative and epsilon is above 0, got {sensitivity}, {epsilon}"
            )
        self.clipping_norm = clipping_norm
        self.sensitivity = sensitivity
        self.epsilon = epsilon
        self.delta = delta
        self.noise_std = gaussian_sigma(epsilon, delta, sensitivity) if sensitivity else 0.0
        if sensitivity < 2 * clipping_norm:
            log(
                WARNING,
                "two updates may be %g apart, twice clipping_norm, and sensitivity is %g: epsilon "
                "does not hold for any two of them",
                2 * clipping_norm,
                sensitivity,
            )

    def __call__(self, msg: Message, ctxt: Context, call_next: Handler) -> Message:
        """Answer a message."""

        def change(before: Arrays, after: Arrays, content: RecordDict) -> Arrays:
            clipped, _ = clipped_model(before, after, self.clipping_norm)
            return noised(clipped, self.noise_std, ctxt)

        return _changed(msg, ctxt, call_next, change)


def noised(arrays: Arrays, sigma: float, context: Context | None) -> dict[str, NDArray]:
    """Return arrays with Gaussian noise in all that are floating-point numbers.

    That of a virtual node follows from the seed, which was set for the node and the round.
    """
    seeded = context is not None and context.simulated
    drawn = Seeds().child("local-dp").integer(256).to_bytes(32, "little") if seeded else None
    source = NoiseSource(drawn or fresh_key(), seeded=seeded)
    floats = {key: value for key, value in arrays.items() if not is_whole(value.dtype)}
    noise = source.gaussian(floats, sigma, "local")
    return dict(arrays) | {
        key: cast_back(np.asarray(value.astype(noise[key].dtype) + noise[key]), value.dtype)
        for key, value in floats.items()
    }


def _bound(message: Message) -> float:
    """Return the bound that the server's wrapper has put into the settings."""
    for record in message.content.config_records.values():
        bound = record.get(KEY_CLIPPING_NORM)
        if isinstance(bound, int | float):
            return float(bound)
    raise UsageError(
        f"the server tells no {KEY_CLIPPING_NORM!r}",
        hint="wrap the strategy into DifferentialPrivacyClientSide..., or leave the mod off",
    )


def _changed(msg: Message, ctxt: Context, call_next: Handler, change: Change) -> Message:
    """Return the reply with another model in it."""
    if not msg.metadata.message_type.startswith("train"):
        return call_next(msg, ctxt)
    try:
        name, record = _only(msg, "message")
    except UsageError as error:
        return _refusal(msg, error)
    before = record.views()
    # Views that the handler cannot write to: it might train in place.
    msg.content = msg.content.copy()
    msg.content[name] = ArrayRecord({key: Array(view) for key, view in before.items()})
    reply = call_next(msg, ctxt)
    if not reply.has_content():
        return reply
    content = reply.content.copy()
    try:
        name, record = _only(reply, "reply")
        arrays = change(before, record.views(), content)
    except (UsageError, RejectedReply) as error:
        return _refusal(msg, error)
    content[name] = ArrayRecord({key: Array(value) for key, value in arrays.items()})
    reply.content = content
    return reply


def _refusal(message: Message, error: UsageError | RejectedReply) -> Message:
    """Return the error reply of a mod that cannot do its work."""
    reason = f"{error.message}. Hint: {error.hint}"
    told = Error(ErrorCode.MOD_FAILED_PRECONDITION, reason, kind=type(error).__name__)
    return Message(told, reply_to=message)


def _only(message: Message, what: str) -> tuple[str, ArrayRecord]:
    records = message.content.array_records
    if len(records) != 1:
        raise UsageError(
            f"the {what} carries {len(records)} ArrayRecords ({sorted(message.content)}), not one",
            hint="one model goes to the client and one comes back",
        )
    return next(iter(records.items()))
