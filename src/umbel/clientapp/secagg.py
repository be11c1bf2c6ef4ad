"""Mod that sends updates masked, so that only their sum over a cohort can be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from umbel.base import KeyStream, SecAggAborted, Seeds, UsageError, fresh_key
from umbel.clientapp.clientdp import DP_RECORD, check_trained_as_asked, lend, update_of
from umbel.clientapp.compression import coded, seed_of
from umbel.clientapp.onion import Handler, Mod
from umbel.privacy import NoiseShare, positive, whole
from umbel.records import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from umbel.secagg import (
    SECAGG_RECORD,
    ClientSession,
    Identity,
    Plan,
    SecAggParameters,
    trusted_keys,
)
from umbel.updates import (
    COMPRESSION_RECORD,
    Arrays,
    NDArray,
    UniformMean,
    WeightedMean,
    is_whole,
    matches,
)


def secagg_mod(
    *,
    minimum_cohort: int = 3,
    colluders: int = 0,
    active: bool = True,
    noise_multiplier: float = 0.0,
) -> Mod:
    """Return a mod that lets a trained model leave only as part of a cohort's sum.

    It answers the steps of the protocol by itself and calls the handler in one of them. What the
    handler returns is replaced by a vector of numbers under masks which cancel in the cohort's sum:
    the update, the weight, and the metrics that the server's plan names. Nothing else leaves. The
    strategy is wrapped by ``umbel.strategies.with_secagg``. Put this mod outermost.

    The owner of a node may set two paths in its node configuration: ``secagg-identity``, a PEM
    file with an Ed25519 private key by which the other nodes know this one, and ``secagg-trusted``,
    a PEM file with the public keys of the nodes that it sums up with. Without them a server could
    invent clients, and is trusted not to.

    Parameters
    ----------
    minimum_cohort : int, default=3
        A sum over fewer clients is refused. ``secagg-minimum-cohort`` in the node's configuration
        can raise it.
    colluders : int, default=0
        How many of its neighbours may work together with the server without giving its update
        away; parameters that withstand fewer are refused. ``secagg-colluders`` can raise it.
    active : bool, default=True
        Refuse a server that does not let clients compare what it told them. False trusts it to
        follow the protocol, as ``with_secagg(..., active=False)`` needs.
    noise_multiplier : float, default=0
        Take part only in sums with at least so much noise, over the bound on one client's update:
        ``umbel.strategies.with_distributed_dp`` has the clients add it.

    Raises
    ------
    ConfigError
        ``minimum_cohort`` is below 2, or ``colluders`` or ``noise_multiplier`` is negative or not a
        number.
    UsageError
        When a message is handled: a value of the update or the weight is out of the range that the
        plan allows.
    SecAggAborted
        When a message is handled: the server asks for a result in the clear, or breaks the
        protocol.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> app = ClientApp(mods=[secagg_mod(minimum_cohort=5)])
    """
    whole(minimum_cohort, "minimum_cohort", 2)
    whole(colluders, "colluders", 0)
    if noise_multiplier != 0:
        positive(noise_multiplier, "noise_multiplier")

    def secure(message: Message, context: Context, call_next: Handler) -> Message:
        if message.metadata.message_type.partition(".")[0] != "train":
            return call_next(message, context)
        asked = message.content.config_records.get(SECAGG_RECORD)
        if asked is None:
            raise SecAggAborted(
                "the server asks for a training result that is not masked",
                hint="wrap the strategy: with_secagg(FedAvg(), ...); and give secagg_mod once",
            )
        stage = asked.get("stage")
        if stage == "advertise":
            session = _begun(asked, context, minimum_cohort, colluders, active)
            return _answer(message, context, session, asked, session.advertise())
        session, kept = _resumed(context, asked)
        match stage:
            case "share":
                told = session.share(asked)
                known = {**kept, "cohort": len(asked["nodes"])}  # type: ignore[arg-type]
                return _answer(message, context, session, known, told)
            case "mask":
                return _masked(message, context, call_next, session, kept, noise_multiplier)
            case "consistency":
                return _answer(message, context, session, kept, session.consistency(asked))
            case "unmask":
                return _answer(message, context, session, kept, session.unmask(asked))
        raise SecAggAborted(f"the server asks for an unknown step of the protocol: {stage!r}")

    return secure


def _begun(
    asked: ConfigRecord, context: Context, minimum_cohort: int, colluders: int, active: bool
) -> ClientSession:
    parameters, session = SecAggParameters.of(asked), asked.get("session")
    if active and not parameters.active:
        raise SecAggAborted(
            "the server wants to leave out the step in which clients compare what it told them",
            hint="leave active=False out of with_secagg; or trust the server, and give it to "
            "secagg_mod too",
        )
    if not isinstance(session, bytes):
        raise SecAggAborted("the server gives the session no id")
    identity = context.node_config.get("secagg-identity")
    trusted = context.node_config.get("secagg-trusted")
    return ClientSession.begin(
        parameters,
        session,
        context.node_id,
        identity=None if identity is None else Identity.from_pem(_read(identity)),
        trusted=None if trusted is None else trusted_keys(_read(trusted)),
        minimum_cohort=_at_least(minimum_cohort, context, "secagg-minimum-cohort"),
        colluders=_at_least(colluders, context, "secagg-colluders"),
    )


def _at_least(number: int, context: Context, name: str) -> int:
    """Return the app's number or the node's, whichever is larger."""
    owners = context.node_config.get(name, number)
    if not isinstance(owners, int):
        raise UsageError(
            f"{name}={owners!r} is not a number of clients", hint="mend the node's configuration"
        )
    return max(number, owners)


def _read(path: object) -> bytes:
    try:
        return Path(str(path)).read_bytes()
    except OSError as error:
        raise SecAggAborted(
            f"a file of keys cannot be read: {error.strerror}",
            hint="mend secagg-identity and secagg-trusted in the node's configuration",
            path=path,
        ) from error


def _resumed(context: Context, asked: ConfigRecord) -> tuple[ClientSession, ConfigRecord]:
    """Return the session in progress, and the plan that came with its beginning."""
    kept = context.state.config_records.get(SECAGG_RECORD)
    if kept is None or kept["session"] != asked.get("session"):
        raise SecAggAborted(
            f"the server asks for step {asked.get('stage')!r} of a session that this node is not "
            "in",
            hint="the node may have lost its state; the next round begins a new session",
        )
    return ClientSession.from_bytes(kept["state"]), kept  # type: ignore[arg-type]


def _answer(
    message: Message,
    context: Context,
    session: ClientSession,
    known: Mapping[str, Any],
    told: Mapping[str, Any],
) -> Message:
    """Return the answer to a step, once the session is in the state that is kept with it."""
    _keep(context, session, known)
    return Message(RecordDict({SECAGG_RECORD: ConfigRecord(told)}), reply_to=message)


def _keep(context: Context, session: ClientSession, known: Mapping[str, Any]) -> None:
    if session.stage == "done":
        context.state.pop(SECAGG_RECORD, None)
    else:
        context.state[SECAGG_RECORD] = ConfigRecord({**known, "state": session.to_bytes()})


def _masked(
    message: Message,
    context: Context,
    call_next: Handler,
    session: ClientSession,
    kept: ConfigRecord,
    noise_multiplier: float,
) -> Message:
    """Let the handler train, and return the masked vector of what came of it."""
    plan, cohort = Plan.from_config(kept), int(kept["cohort"])  # type: ignore[arg-type]
    asked = message.content[SECAGG_RECORD]
    # Of what came, before the handler could change it.
    agreed = plan.digest(message.content)
    share = _share(plan, session.parameters, cohort, noise_multiplier)
    message.content = RecordDict({k: r for k, r in message.content.items() if k != SECAGG_RECORD})
    private = message.content.config_records.get(DP_RECORD)
    seed = seed_of(message) if plan.fraction < 1 else 0
    before = lend(message, plan.record)
    reply = call_next(message, context)
    if not reply.has_content():
        return reply
    if private is not None:
        check_trained_as_asked(private, reply.content)  # the server cannot: it sees a sum
    _refuse(plan, reply.content)
    before = plan.shared(before)
    if share is None:
        vector = _vector(plan, before, reply.content, context, seed, cohort)
    else:
        vector = _noised(share, before, update_of(before, reply, plan.record), context)
        vector = vector.astype(session.parameters.dtype)  # modulo 2**bits
    masked = session.mask(vector, agreed, asked)
    _keep(context, session, kept)
    return Message(RecordDict({"masked": ArrayRecord({"vector": masked})}), reply_to=message)


def _refuse(plan: Plan, content: RecordDict) -> None:
    """Refuse a reply with something in it that is in no sum."""
    if COMPRESSION_RECORD in content:
        raise UsageError(
            "the reply is compressed already",
            hint="leave out compression_mod; with_secagg(..., compressor=SharedRandomK(0.1)) on "
            "the server is enough",
        )
    arrays = content.array_records.get(plan.record, ArrayRecord())
    names = [name for name in arrays if matches(name, plan.personal)]
    if names:
        raise UsageError(
            f"the reply carries personal arrays: {names[:5]}",
            hint=f"mods=[secagg_mod(), personal_layers_mod({list(plan.personal)})], in this order",
        )


def _share(
    plan: Plan, parameters: SecAggParameters, cohort: int, noise_multiplier: float
) -> NoiseShare | None:
    """Return the noise that this client adds, if the sum is to have any.

    Raises
    ------
    SecAggAborted
        It is to have less than this client asks for.
    """
    share = NoiseShare.of(plan.noise) if plan.noise else None
    # If as many drop out as may.
    planned = share.noise_multiplier(parameters.quorum(cohort)) if share is not None else 0.0
    if planned < noise_multiplier * (1 - 1e-9):
        raise SecAggAborted(
            f"the sum is to have noise of {planned:.3g} times the bound on an update, and this "
            f"client asks for {noise_multiplier:g}",
            hint="wrap the strategy with with_distributed_dp(..., noise_multiplier=...)",
        )
    return share


def _noised(share: NoiseShare, before: Arrays, update: Arrays, context: Context) -> NDArray:
    """Return the update as whole numbers, clipped and with its share of noise."""
    moving = [key for key, value in before.items() if not is_whole(value.dtype)]
    missing = sorted(set(moving).difference(update))
    if missing:
        raise UsageError(
            f"the reply lacks arrays of the model: {missing[:5]}",
            hint="reply with all arrays of the message, under their names",
        )
    secret = _secret(context, "distributed-dp")
    numbers = share.draw({key: update[key] for key in moving}, secret, seeded=context.simulated)
    return np.concatenate([numbers[key].reshape(-1) for key in moving])


def _secret(context: Context, name: str) -> bytes:
    """Return a fresh key; a virtual node's follows from the seed, set for this node and round."""
    if context.simulated:
        return Seeds().child(name).integer(256).to_bytes(32, "little")
    return fresh_key()


def _vector(
    plan: Plan, before: Arrays, content: RecordDict, context: Context, seed: int, cohort: int
) -> NDArray:
    """Return the weighted update as whole numbers."""
    shapes = {key: value.shape for key, value in before.items()}
    reader = (
        WeightedMean(plan.weighted_by, shapes=shapes)
        if plan.weighted_by
        else UniformMean(plan.record, shapes=shapes)
    )
    arrays, weight = reader.checked(content)
    metrics = next(iter(content.metric_records.values()), MetricRecord())
    summed = {key: arrays[key] for key in before}
    codes = plan.codes(before, seed)
    if codes:
        made = coded(codes, arrays, before, context, plan.error_feedback)
        summed.update({key: parts["values"] for key, parts in made.items()})
    parts = plan.parts(summed, metrics)
    chance = KeyStream(_secret(context, "rounding")).uniform if plan.rounds_by_chance else None
    return plan.codec(cohort).encode(parts, weight, before=plan.origin(before), uniform=chance)
