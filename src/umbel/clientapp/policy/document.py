"""From the TOML of a policy to its rules: every key is known, every value possible."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from umbel.base import ConfigError, content_hash
from umbel.clientapp.policy.hours import OpeningHours, time_zone, window
from umbel.clientapp.policy.reading import (
    Key,
    bundle_hash,
    flag,
    fraction,
    message_type,
    number,
    one_of,
    positive,
    read_table,
    refuse_unknown,
    scalar,
    several,
    signer,
    text,
    whole,
)
from umbel.clientapp.policy.rules import (
    AppRule,
    ArrayRules,
    ConfigRule,
    MessageRules,
    MetricRule,
    Policy,
    PrivacyFloor,
    SecAggRules,
)

KEYS: dict[str, dict[str, Key]] = {
    "contact": {},
    "apps": {
        "name": Key(text, required=True),
        "bundles": Key(several(bundle_hash, "hashes of bundles")),
        "signers": Key(several(signer, "public keys")),
        "epsilon": Key(positive),
    },
    "messages": {
        "types": Key(several(message_type, "types of messages"), required=True),
        "max-bytes": Key(whole(1)),
        "per-hour": Key(whole(1)),
        "per-run": Key(whole(1)),
    },
    "opening-hours": {
        "time-zone": Key(time_zone, required=True),
        "open": Key(several(window, "windows of time"), required=True),
    },
    "arrays": {
        "dtypes": Key(several(text, "names of dtypes")),
        "max-count": Key(whole(1)),
        "max-bytes": Key(whole(1)),
        "also": Key(several(text, "record/array names"), default=()),
        "partial": Key(flag, default=False),
    },
    "metrics": {
        "minimum": Key(number),
        "maximum": Key(number),
        "step": Key(positive),
        "noise-multiplier": Key(positive),
    },
    "configs": {"values": Key(several(scalar, "values"), required=True)},
    "errors": {"tell": Key(one_of("nothing", "kind", "text"), default="kind")},
    "output": {"log": Key(flag, default=False)},
    "privacy": {
        "data-set": Key(text, required=True),
        "clip": Key(positive),
        "noise-multiplier": Key(positive),
        "reply-is": Key(one_of("model", "update"), default="model"),
        "epsilon": Key(positive),
        "delta": Key(fraction),
    },
    "secure-aggregation": {
        "minimum-cohort": Key(whole(2), required=True),
        "required": Key(flag, default=False),
        "identity": Key(text),
        "trusted": Key(text),
    },
}
"""All tables and their keys. ``contact`` is a key of the file itself; ``apps`` is a list of tables,
and ``metrics`` and ``configs`` hold a table for each name."""


def parse_policy(document: str, file: str = "the policy") -> Policy:
    r"""Read the policy of a node.

    Parameters
    ----------
    document : str
        TOML; ``docs/policy.md`` lists all keys. What is not mentioned does not leave the node.
    file : str
        Its path: errors name it, and the paths in it are relative to its folder.

    Raises
    ------
    ConfigError
        It is not TOML; a key is unknown or missing; a value is not possible, or contradicts
        another.

    Examples
    --------
    >>> policy = parse_policy('contact = "dpo@clinic"\n[messages]\ntypes = ["train"]')
    >>> policy.messages.allows("evaluate"), policy.arrays, policy.errors
    (False, None, 'kind')
    """
    try:
        whole_file = tomllib.loads(document)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not a TOML file: {error}", hint="mend the file", file=file) from error
    refuse_unknown(whole_file, KEYS, "a policy", file)
    top = {"contact": whole_file["contact"]} if "contact" in whole_file else {}
    contact = read_table(top, {"contact": Key(text, required=True)}, "the policy", file)["contact"]

    def values(name: str) -> dict[str, Any]:
        return read_table(whole_file[name], KEYS[name], f"[{name}]", file)

    if "messages" not in whole_file:
        raise ConfigError(
            "the policy does not say what is answered",
            hint='add [messages] with types = ["train", "evaluate"]',
            file=file,
        )
    policy = Policy(
        contact=contact,
        messages=MessageRules(**values("messages")),
        apps=tuple(AppRule(**each) for each in _listed(whole_file, "apps", file)),
        opening_hours=OpeningHours(**values("opening-hours"))
        if "opening-hours" in whole_file
        else None,
        arrays=ArrayRules(**values("arrays")) if "arrays" in whole_file else None,
        metrics={k: MetricRule(**v) for k, v in _named(whole_file, "metrics", file)},
        configs={k: ConfigRule(**v) for k, v in _named(whole_file, "configs", file)},
        errors=values("errors")["tell"] if "errors" in whole_file else "kind",
        output=values("output")["log"] if "output" in whole_file else False,
        privacy=PrivacyFloor(**values("privacy")) if "privacy" in whole_file else None,
        secure_aggregation=SecAggRules(**values("secure-aggregation"))
        if "secure-aggregation" in whole_file
        else None,
        digest=content_hash([document.encode()]),
    )
    _check(policy, file)
    return _with_paths(policy, Path(file).parent)


def _listed(document: Mapping[str, Any], name: str, file: str) -> Iterable[dict[str, Any]]:
    tables = document.get(name, [])
    if not isinstance(tables, list):
        raise ConfigError(f"{name} is not a list", hint=f"write [[{name}]] for each", file=file)
    for table in tables:
        yield read_table(table, KEYS[name], f"[[{name}]]", file)


def _named(
    document: Mapping[str, Any], name: str, file: str
) -> Iterable[tuple[str, dict[str, Any]]]:
    tables = document.get(name, {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{name} is not a table", hint=f"write [{name}.NAME]", file=file)
    for key, table in tables.items():
        yield key, read_table(table, KEYS[name], f"[{name}.{key}]", file)


def _check(policy: Policy, file: str) -> None:
    """Refuse rules that contradict each other, or promise what they cannot hold."""
    for where, problem, hint in (*_of_metrics(policy), *_of_privacy(policy), *_of_masks(policy)):
        raise ConfigError(f"[{where}] {problem}", hint=hint, file=file)


def _of_metrics(policy: Policy) -> Iterable[tuple[str, str, str]]:
    for name, rule in policy.metrics.items():
        low, high = rule.minimum, rule.maximum
        if low is not None and high is not None and low >= high:
            yield f"metrics.{name}", f"minimum {low:g} is not below maximum {high:g}", "swap them"
        if rule.noise_multiplier is not None and (low is None or high is None):
            yield (
                f"metrics.{name}",
                "noise is as large as the range of the metric, which has no bounds",
                "give it a minimum and a maximum",
            )


def _of_privacy(policy: Policy) -> Iterable[tuple[str, str, str]]:
    floor = policy.privacy
    noisy_metric = any(rule.noise_multiplier for rule in policy.metrics.values())
    if floor is None:
        if any(app.epsilon for app in policy.apps):
            yield "[apps]", "an app has a part of a budget that there is not", "add [privacy]"
        return
    if floor.noise_multiplier is not None and floor.clip is None:
        yield "privacy", "noise protects what is bounded", "add clip"
    if (floor.epsilon is None) != (floor.delta is None):
        yield "privacy", "a budget is epsilon and delta", "give both, or neither"
    if floor.epsilon is None:
        if any(app.epsilon for app in policy.apps):
            yield "[apps]", "an app has a part of a budget that there is not", "add epsilon"
        return
    if policy.arrays is not None and floor.noise_multiplier is None:
        yield "privacy", "a budget of epsilon says nothing without noise", "add noise-multiplier"
    if policy.arrays is None and not noisy_metric:
        yield "privacy", "there is a budget, and nothing that spends it", "remove epsilon and delta"


def _of_masks(policy: Policy) -> Iterable[tuple[str, str, str]]:
    rules = policy.secure_aggregation
    if rules is None:
        return
    if policy.arrays is None:
        yield "secure-aggregation", "masked updates are arrays, and none may leave", "add [arrays]"
    if policy.privacy is not None and policy.privacy.clip is not None:
        yield (
            "secure-aggregation",
            "what is masked can be neither clipped nor noised here, as [privacy] wants",
            "choose one of the two; distributed differential privacy is the app's, under masks",
        )


def _with_paths(policy: Policy, folder: Path) -> Policy:
    rules = policy.secure_aggregation
    if rules is None:
        return policy
    identity = None if rules.identity is None else str(folder / rules.identity)
    trusted = None if rules.trusted is None else str(folder / rules.trusted)
    return replace(policy, secure_aggregation=replace(rules, identity=identity, trusted=trusted))
