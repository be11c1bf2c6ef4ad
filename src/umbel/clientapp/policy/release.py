"""What leaves a node of a reply: checked, bounded and noised, whatever the app did.

The content that is returned is made anew, in an order of the message's and the policy's: nothing
travels in the order of an app's names, or between the lines of its file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from umbel.base import Scalar
from umbel.clientapp.policy.bounding import Normals, Pair, bounded, is_float, norm
from umbel.clientapp.policy.masked import asks_for_masks, masked_records
from umbel.clientapp.policy.refusing import refusal
from umbel.clientapp.policy.rules import ArrayRules, MetricRule, Policy, PrivacyFloor
from umbel.records import Array, ArrayRecord, ConfigRecord, MetricRecord, Record, RecordDict

_METRICS, _CONFIG = "metrics", "config"
_A_LITTLE_LESS = 1 - 1e-12
"""Rounding may not take what is shortened beyond its bound."""
_NUMBERS = ("bool", "int", "uint", "float", "bfloat")


@dataclass(frozen=True, slots=True)
class ReleasedReply:
    """What may leave.

    Attributes
    ----------
    content : RecordDict
        The reply.
    noise_multipliers : tuple of float
        One for each Gaussian mechanism that it went through: the noise's standard deviation in
        units of how far one node's data, replaced by other data, can move what it was added to.
    """

    content: RecordDict
    noise_multipliers: tuple[float, ...]


def release_reply(
    policy: Policy, message: RecordDict, reply: RecordDict, normals: Normals
) -> ReleasedReply:
    """Return what may leave of a reply.

    Parameters
    ----------
    policy : Policy
        The node's.
    message : RecordDict
        What is answered.
    reply : RecordDict
        What the app made.
    normals : callable
        Where noise comes from.

    Raises
    ------
    PolicyRefused
        The reply holds what may not leave.
    """
    for record in reply.values():
        if not isinstance(record, ArrayRecord | MetricRecord | ConfigRecord):
            raise refusal(policy, "arrays", "a record is of a kind that is not known here")
    content: dict[str, Record] = {}
    if asks_for_masks(message):
        content |= masked_records(policy, message, reply)
        reply = RecordDict({k: record for k, record in reply.items() if k not in content})
    pairs = list(_checked_arrays(policy, message, reply))
    if pairs and policy.secure_aggregation is not None and policy.secure_aggregation.required:
        raise refusal(policy, "secure-aggregation", "arrays leave this node masked, or not at all")
    arrays, multipliers = _bounded_arrays(policy, pairs, normals)
    for pair, array in zip(pairs, arrays, strict=True):
        record = content.setdefault(pair.record, ArrayRecord())
        record[pair.key] = array
    metrics, noisy = _metrics(policy, reply, normals)
    if metrics is not None:
        content[_METRICS] = metrics
    settings = _settings(policy, reply)
    if settings is not None:
        content[_CONFIG] = settings
    return ReleasedReply(RecordDict(content), (*multipliers, *noisy))


def multipliers_of_arrays(policy: Policy) -> tuple[float, ...]:
    """Return the noise multipliers of a reply that carries arrays and no metrics."""
    floor = policy.privacy
    if floor is None or floor.noise_multiplier is None:
        return ()
    # Two updates within the bound lie up to twice the bound apart.
    return (floor.noise_multiplier / 2,)


# ---- Arrays


def _checked_arrays(policy: Policy, message: RecordDict, reply: RecordDict) -> Iterator[Pair]:
    """Yield the arrays that may leave, in the order of the message's, then of the policy's."""
    found = {
        (name, key): array
        for name, record in reply.array_records.items()
        for key, array in record.items()
    }
    if not reply.array_records:
        return
    rules = policy.arrays
    if rules is None:
        raise refusal(policy, "arrays", "no arrays leave this node")
    sent = {
        (name, key): array
        for name, record in message.array_records.items()
        for key, array in record.items()
    }
    also = [_place(name) for name in rules.also]
    allowed = dict.fromkeys([*sent, *also])
    strange = [place for place in found if place not in allowed]
    records = {record for record, _ in allowed}
    empty = [name for name in reply.array_records if name not in records]
    if strange or empty:
        names = ["/".join(place) for place in strange] + empty
        raise refusal(
            policy,
            "arrays.also",
            "an array has no counterpart of its name in the message",
            f"the app's names: {', '.join(names)}",
        )
    missing = [place for place in sent if place not in found and place[0] in reply.array_records]
    if missing and not rules.partial:
        # Which of a hundred layers come back would be a hundred bits.
        raise refusal(
            policy,
            "arrays.partial",
            "a record of arrays comes back whole, or not at all",
            f"without {', '.join('/'.join(place) for place in missing)}",
        )
    order = [place for place in allowed if place in found]
    _check_total(policy, rules, [found[place] for place in order])
    for place in order:
        _check_array(policy, rules, place, sent.get(place), found[place])
        before = sent[place].view() if place in sent and place not in also else None
        yield Pair(*place, before, found[place].view())


def _place(name: str) -> tuple[str, str]:
    record, _, key = name.partition("/")
    return record, key


def _check_total(policy: Policy, rules: ArrayRules, arrays: list[Array]) -> None:
    size = sum(array.nbytes for array in arrays)
    if rules.max_count is not None and len(arrays) > rules.max_count:
        raise refusal(
            policy, "arrays.max-count", f"at most {rules.max_count} arrays leave in one reply"
        )
    if rules.max_bytes is not None and size > rules.max_bytes:
        raise refusal(
            policy,
            "arrays.max-bytes",
            f"the arrays of a reply have at most {rules.max_bytes} bytes together",
            f"they have {size}",
        )


def _check_array(
    policy: Policy,
    rules: ArrayRules,
    place: tuple[str, str],
    sent: Array | None,
    array: Array,
) -> None:
    name = "/".join(place)
    is_extra = sent is None or name in rules.also
    if not array.dtype.startswith(_NUMBERS):
        raise refusal(policy, "arrays.dtypes", "only numbers leave this node", f"{name}: {array!r}")
    if rules.dtypes is not None and array.dtype not in rules.dtypes:
        raise refusal(
            policy,
            "arrays.dtypes",
            f"arrays leave with dtype {' or '.join(rules.dtypes)}",
            f"{name}: {array!r}",
        )
    if is_extra or sent is None:
        return
    if array.shape != sent.shape:
        raise refusal(
            policy, "arrays", "an array has another shape than in the message", f"{name}: {array!r}"
        )
    if rules.dtypes is None and array.dtype != sent.dtype:
        raise refusal(
            policy,
            "arrays.dtypes",
            "an array has another dtype than in the message",
            f"{name}: {array!r}",
        )


def _bounded_arrays(
    policy: Policy, pairs: list[Pair], normals: Normals
) -> tuple[list[Array], tuple[float, ...]]:
    """Return the arrays as they leave, and the noise multipliers of what was done to them."""
    floor = policy.privacy
    if floor is None or floor.clip is None:
        for pair in pairs:
            if is_float(pair.after.dtype) and not math.isfinite(norm([pair])):
                raise _not_finite(policy, pair)
        return [Array(pair.after) for pair in pairs], ()
    measured = [_measured(policy, floor, pair) for pair in pairs]
    floats = [pair for pair in measured if is_float(pair.after.dtype)]
    length = norm(floats)
    if not math.isfinite(length):
        raise _not_finite(policy, next((p for p in floats if not math.isfinite(norm([p]))), None))
    factor = 1.0 if length <= floor.clip else floor.clip / length * _A_LITTLE_LESS
    noisy = floor.noise_multiplier is not None
    sigma = floor.clip * (floor.noise_multiplier or 0.0)
    arrays = [
        Array(bounded(pair, factor, sigma, normals if noisy else None))
        if is_float(pair.after.dtype)
        else Array(pair.after)
        for pair in measured
    ]
    return arrays, multipliers_of_arrays(policy) if floats else ()


def _measured(policy: Policy, floor: PrivacyFloor, pair: Pair) -> Pair:
    """Return where an array is measured from; what is not floating goes back as it came."""
    if not is_float(pair.after.dtype):
        if pair.before is None:
            raise refusal(
                policy,
                "privacy.clip",
                "only floating-point numbers can be bounded, and an array holds others",
                f"{pair.record}/{pair.key}",
            )
        return pair._replace(after=pair.before)
    return pair._replace(before=None) if floor.reply_is == "update" else pair


def _not_finite(policy: Policy, pair: Pair | None) -> Exception:
    where = "" if pair is None else f"{pair.record}/{pair.key}"
    return refusal(policy, "arrays", "an array holds NaN, infinity, or is too large", where)


# ---- Metrics and settings


def _metrics(
    policy: Policy, reply: RecordDict, normals: Normals
) -> tuple[MetricRecord | None, list[float]]:
    records = reply.metric_records
    strange = [name for name in records if name != _METRICS]
    if strange:
        raise refusal(
            policy,
            "metrics",
            f"metrics leave in a record called {_METRICS!r}",
            f"the app's: {', '.join(strange)}",
        )
    if _METRICS not in records:
        return None, []
    given, left, noisy = records[_METRICS], MetricRecord(), []
    unknown = [name for name in given if name not in policy.metrics]
    if unknown:
        allowed = ", ".join(policy.metrics) or "none"
        raise refusal(
            policy,
            "metrics",
            f"a metric is not among those that may leave: {allowed}",
            f"the app's: {', '.join(unknown)}",
        )
    for name, rule in policy.metrics.items():
        if name in given:
            value = given[name]
            if isinstance(value, list) or not math.isfinite(value):
                raise refusal(policy, f"metrics.{name}", "a metric is one finite number")
            left[name] = _told(rule, value, normals)
            if rule.noise_multiplier is not None:
                noisy.append(rule.noise_multiplier)
    return left, noisy


def _told(rule: MetricRule, value: int | float, normals: Normals) -> int | float:
    """Return what is told of a metric: within its range, with its noise, in its steps."""
    told = value
    if rule.minimum is not None and told < rule.minimum:
        told = rule.minimum
    if rule.maximum is not None and told > rule.maximum:
        told = rule.maximum
    if rule.noise_multiplier is not None and rule.minimum is not None and rule.maximum is not None:
        spread = rule.noise_multiplier * (rule.maximum - rule.minimum)
        told = float(told) + spread * float(normals(1)[0])
    if rule.step is not None:
        told = round(told / rule.step) * rule.step
    if isinstance(value, int) and float(told).is_integer():
        return int(told)
    return float(told) + 0.0  # of the two zeros, the one without a sign


def _settings(policy: Policy, reply: RecordDict) -> ConfigRecord | None:
    records = reply.config_records
    strange = [name for name in records if name != _CONFIG]
    if strange:
        raise refusal(
            policy,
            "configs",
            f"settings leave in a record called {_CONFIG!r}",
            f"the app's: {', '.join(strange)}",
        )
    if _CONFIG not in records:
        return None
    given, left = records[_CONFIG], ConfigRecord()
    unknown = [name for name in given if name not in policy.configs]
    if unknown:
        allowed = ", ".join(policy.configs) or "none"
        raise refusal(
            policy,
            "configs",
            f"a setting is not among those that may leave: {allowed}",
            f"the app's: {', '.join(unknown)}",
        )
    for name, rule in policy.configs.items():
        if name in given:
            value = given[name]
            if not _is_one_of(value, rule.values):
                raise refusal(policy, f"configs.{name}", "a value is not among those listed")
            left[name] = value
    return left


def _is_one_of(value: object, allowed: tuple[Scalar, ...]) -> bool:
    # True equals 1, and is another value all the same.
    return any(type(value) is type(each) and value == each for each in allowed)
