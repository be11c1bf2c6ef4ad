"""The rules of a policy, as they are decided by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from umbel.base import Scalar
from umbel.clientapp.policy.hours import OpeningHours


@dataclass(frozen=True, slots=True)
class AppRule:
    """An app that may run: all that is given here must be true of it.

    Attributes
    ----------
    name : str
        As its ``pyproject.toml`` says.
    bundles : tuple of str or None
        SHA-256 of its bundle: one of these.
    signers : tuple of str or None
        Public keys, of which one has signed it.
    epsilon : float or None
        What it may spend of the privacy budget.
    """

    name: str
    bundles: tuple[str, ...] | None = None
    signers: tuple[str, ...] | None = None
    epsilon: float | None = None

    @property
    def is_proved(self) -> bool:
        """Whether an app needs more than a name to be this one."""
        return bool(self.bundles or self.signers)


@dataclass(frozen=True, slots=True)
class MessageRules:
    """What is answered, and how often.

    Attributes
    ----------
    types : tuple of str
        Types of messages: ``"train"`` or ``"query.stats"`` alone, ``"query.*"`` for all actions.
    max_bytes : int or None
        The size of a message.
    per_hour, per_run : int or None
        How many are answered in an hour, and for a run.
    """

    types: tuple[str, ...]
    max_bytes: int | None = None
    per_hour: int | None = None
    per_run: int | None = None

    def allows(self, message_type: str) -> bool:
        """Whether messages of a type are answered.

        Examples
        --------
        >>> MessageRules(("train", "query.*")).allows("query.stats")
        True
        >>> MessageRules(("train", "query.*")).allows("train.raw")
        False
        """
        kind, _, action = message_type.partition(".")
        plain = message_type.removesuffix(".default")
        return (
            plain in self.types
            or message_type in self.types
            or (bool(action) and f"{kind}.*" in self.types)
        )


@dataclass(frozen=True, slots=True)
class ArrayRules:
    """Which arrays leave.

    Attributes
    ----------
    dtypes : tuple of str or None
        Their dtypes; that of the message's array of the same name where this is ``None``.
    max_count, max_bytes : int or None
        How many, and how many bytes together.
    also : tuple of str
        ``"record/array"``: arrays that the message does not carry, of any shape.
    partial : bool
        Whether some arrays of a record may be missing.
    """

    dtypes: tuple[str, ...] | None = None
    max_count: int | None = None
    max_bytes: int | None = None
    also: tuple[str, ...] = ()
    partial: bool = False


@dataclass(frozen=True, slots=True)
class MetricRule:
    """What a metric may tell.

    Attributes
    ----------
    minimum, maximum : float or None
        Values beyond are moved to these.
    step : float or None
        Values are rounded to multiples of it.
    noise_multiplier : float or None
        Standard deviation of added Gaussian noise, in units of ``maximum - minimum``.
    """

    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    noise_multiplier: float | None = None


@dataclass(frozen=True, slots=True)
class ConfigRule:
    """The values that a key of a reply's settings may have."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class PrivacyFloor:
    """What is done to arrays whatever the app did, and how much of it all there may be.

    Attributes
    ----------
    data_set : str
        Whose budget it is.
    clip : float or None
        Bound on the L2 norm of a reply's arrays, less those of the message.
    noise_multiplier : float or None
        Standard deviation of added Gaussian noise, in units of ``clip``.
    reply_is : {"model", "update"}
        Whether the message's arrays are still in the reply's, or are taken off already.
    epsilon, delta : float or None
        The budget of the data set.
    """

    data_set: str
    clip: float | None = None
    noise_multiplier: float | None = None
    reply_is: str = "model"
    epsilon: float | None = None
    delta: float | None = None


@dataclass(frozen=True, slots=True)
class SecAggRules:
    """Under which conditions masked updates leave.

    Attributes
    ----------
    required : bool
        Whether nothing but masked updates may leave in answer to training.
    minimum_cohort : int
        How many clients a sum has at least.
    identity, trusted : str or None
        Files with the node's key, and with those of the nodes that it believes.
    """

    minimum_cohort: int
    required: bool = False
    identity: str | None = None
    trusted: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner of a node lets in and out; see ``parse_policy``.

    Attributes
    ----------
    contact : str
        To whom those turn who are refused something.
    messages : MessageRules
        What is answered.
    apps : tuple of AppRule
        What may run; empty for what the node's other settings allow.
    opening_hours : OpeningHours or None
        When it is answered; ``None`` for always.
    arrays : ArrayRules or None
        Which arrays leave; ``None`` for none.
    metrics : mapping
        Which metrics leave.
    configs : mapping
        Which settings leave.
    errors : {"nothing", "kind", "text"}
        What is told of errors.
    output : bool
        Whether what apps print goes to the node's log.
    privacy : PrivacyFloor or None
        What is done to arrays.
    secure_aggregation : SecAggRules or None
        How masked updates leave; ``None`` for not at all.
    digest : str
        SHA-256 of its text.
    """

    contact: str
    messages: MessageRules
    apps: tuple[AppRule, ...]
    opening_hours: OpeningHours | None
    arrays: ArrayRules | None
    metrics: Mapping[str, MetricRule]
    configs: Mapping[str, ConfigRule]
    errors: str
    output: bool
    privacy: PrivacyFloor | None
    secure_aggregation: SecAggRules | None
    digest: str

    @property
    def signers(self) -> tuple[str, ...]:
        """All keys of which one has to have signed some app."""
        return tuple(dict.fromkeys(key for app in self.apps for key in app.signers or ()))

    def pins(self, bundle: str) -> bool:
        """Whether a bundle is allowed by its hash: its code is known, whoever signed it."""
        return any(bundle in (app.bundles or ()) for app in self.apps)
