"""A policy in plain words, for its owner to see whether it says what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from umbel.clientapp.policy.account import releases_within
from umbel.clientapp.policy.release import multipliers_of_arrays
from umbel.clientapp.policy.rules import AppRule, MetricRule, Policy


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a policy comes to.

    Attributes
    ----------
    sentences : tuple of (str, str)
        What is allowed, each with what it is about.
    warnings : tuple of str
        What leaks all the same, and could be closed.
    """

    sentences: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def explain_policy(policy: Policy) -> Explanation:
    r"""Return a policy in plain words.

    Examples
    --------
    >>> from umbel.clientapp.policy.document import parse_policy
    >>> policy = parse_policy('contact = "dpo@clinic"\n[messages]\ntypes = ["evaluate"]')
    >>> dict(explain_policy(policy).sentences)["arrays"]
    'No arrays leave.'
    """
    sentences = [
        ("apps", _apps(policy)),
        ("messages", _messages(policy)),
        ("opening hours", _hours(policy)),
        ("arrays", _arrays(policy)),
        ("metrics", _metrics(policy)),
        ("settings", _settings(policy)),
        ("errors", _errors(policy)),
        ("output", _output(policy)),
        ("privacy", _privacy(policy)),
        ("secure aggregation", _masks(policy)),
        (
            "refusals",
            f"Who is refused something is told the rule, and to turn to {policy.contact}.",
        ),
    ]
    return Explanation(tuple(sentences), tuple(_warnings(policy)))


def _apps(policy: Policy) -> str:
    if not policy.apps:
        return "Every app that the node's other settings allow may run."
    return f"Only these apps may run: {'; '.join(map(_app, policy.apps))}."


def _app(rule: AppRule) -> str:
    proofs = []
    if rule.bundles:
        proofs.append("in a version whose hash is listed")
    if rule.signers:
        proofs.append("signed with a key that is listed")
    if rule.epsilon:
        proofs.append(f"spending at most ε = {rule.epsilon:g}")
    return ", ".join([repr(rule.name), *proofs])


def _messages(policy: Policy) -> str:
    rules = policy.messages
    limits = [
        f"at most {limit} {what}"
        for limit, what in (
            (rules.per_hour, "in an hour"),
            (rules.per_run, "of one run"),
            (rules.max_bytes, "bytes each"),
        )
        if limit is not None
    ]
    return f"Messages of type {', '.join(rules.types)} are answered{_joined(limits)}."


def _hours(policy: Policy) -> str:
    if policy.opening_hours is None:
        return "The node is always open."
    return f"The node is open {policy.opening_hours}, and refuses what comes at other times."


def _arrays(policy: Policy) -> str:
    rules = policy.arrays
    if rules is None:
        return "No arrays leave."
    limits = [f"dtype {' or '.join(rules.dtypes)}"] if rules.dtypes else []
    limits += [f"at most {rules.max_count} in a reply"] if rules.max_count else []
    limits += [f"at most {rules.max_bytes} bytes in all"] if rules.max_bytes else []
    limits += ["some of a record may be missing"] if rules.partial else []
    also = f" So may {', '.join(rules.also)}, in any shape." if rules.also else ""
    return (
        f"Arrays leave that have the name and shape of one in the message{_joined(limits)}.{also}"
    )


def _metrics(policy: Policy) -> str:
    if not policy.metrics:
        return "No metrics leave."
    return (
        f"Single numbers leave as {'; '.join(_metric(*each) for each in policy.metrics.items())}."
    )


def _metric(name: str, rule: MetricRule) -> str:
    low, high = rule.minimum, rule.maximum
    parts = []
    if low is not None and high is not None:
        parts.append(f"between {low:g} and {high:g}")
    elif low is not None:
        parts.append(f"from {low:g} on")
    elif high is not None:
        parts.append(f"up to {high:g}")
    if rule.noise_multiplier is not None:
        parts.append(f"with noise of {rule.noise_multiplier:g} times the range")
    if rule.step is not None:
        parts.append(f"in steps of {rule.step:g}")
    return " ".join([name, ", ".join(parts)]).strip()


def _settings(policy: Policy) -> str:
    if not policy.configs:
        return "No settings leave."
    listed = (f"{name}: one of {len(rule.values)} values" for name, rule in policy.configs.items())
    return f"Settings leave as {'; '.join(listed)}."


def _errors(policy: Policy) -> str:
    return {
        "nothing": "Of errors it is told that there was one.",
        "kind": "Of errors the kind is told, such as ValueError, and no text.",
        "text": "Errors are told with their text.",
    }[policy.errors]


def _output(policy: Policy) -> str:
    where = "goes to the node's own log" if policy.output else "is thrown away"
    return f"What an app prints {where}."


def _privacy(policy: Policy) -> str:
    floor = policy.privacy
    if floor is None:
        return "Nothing is clipped, and no noise is added."
    done = []
    if floor.clip is not None:
        what = "the update" if floor.reply_is == "update" else "the change that a reply makes"
        done.append(f"{what} has at most the L2 norm {floor.clip:g}")
    if floor.clip is not None and floor.noise_multiplier is not None:
        sigma = floor.clip * floor.noise_multiplier
        done.append(f"Gaussian noise of standard deviation {sigma:g} is added to each number")
    if floor.epsilon is not None and floor.delta is not None:
        done.append(
            f"all replies about {floor.data_set!r} together spend at most ε = {floor.epsilon:g} at "
            f"δ = {floor.delta:g}, for data of this node that is replaced by any other"
        )
        count = releases_within(multipliers_of_arrays(policy), floor.epsilon, floor.delta)
        if count is not None:
            done.append(f"that is enough for {count} replies with arrays")
    text = "; ".join(done) or "nothing is clipped, and no noise is added"
    return f"{text[0].upper()}{text[1:]}."


def _masks(policy: Policy) -> str:
    rules = policy.secure_aggregation
    if rules is None:
        return "The node takes no part in it."
    only = "Training is answered under it alone, and n" if rules.required else "N"
    return f"{only}o sum is of fewer than {rules.minimum_cohort} clients."


def _joined(limits: list[str]) -> str:
    return f": {', '.join(limits)}" if limits else ""


def _warnings(policy: Policy) -> Iterator[str]:
    floor, arrays = policy.privacy, policy.arrays
    masked = policy.secure_aggregation is not None and policy.secure_aggregation.required
    if not policy.apps:
        yield "Any app may run that the node's other settings allow: name them under [[apps]]."
    for rule in policy.apps:
        if not rule.is_proved:
            yield f"Anybody can call an app {rule.name!r}: add bundles or signers."
    if arrays is not None and not masked and (floor is None or floor.clip is None):
        yield "Arrays leave as the app made them, and can hold any data: add [privacy] clip."
    elif arrays is not None and not masked and floor is not None and not floor.noise_multiplier:
        yield "Arrays are bounded and hold no noise: data can still be read from them."
    proved = policy.apps and all(rule.is_proved for rule in policy.apps)
    if policy.secure_aggregation is not None and not proved:
        yield (
            "Masks are made by the app, and this node cannot see whether they are: pin the app by "
            "bundles or signers."
        )
    for name, metric in policy.metrics.items():
        if None in (metric.minimum, metric.maximum, metric.step):
            yield f"The number metrics.{name} can hold data in its digits: bound and round it."
    if policy.errors == "text":
        yield "The text of an error can hold any data."
    if policy.output:
        yield "What an app prints can hold any data, and goes where the node's log goes."
    if arrays is not None and floor is not None and floor.noise_multiplier and not floor.epsilon:
        yield "Noise without a budget averages out over many replies: add epsilon and delta."
