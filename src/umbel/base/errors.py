"""The error tree: every error says what was wrong, where, and what to do about it.

An error carries a stable ``code`` (documented in ``docs/errors.md``), a ``hint`` that says what to
do next, and a ``context`` of named facts (node, round, key ...) that its text shows.
"""

from __future__ import annotations

from typing import ClassVar


class UmbelError(Exception):
    """Root of all errors that Umbel raises on purpose.

    Parameters
    ----------
    message : str
        What was wrong, in one sentence.
    hint : str, optional
        What the reader should do about it.
    **context : object
        Where it happened: ``node=3, round=7, key="fc.weight"``.

    Examples
    --------
    >>> str(ConfigError("unknown key 'lr'", hint="declare it first", file="pyproject.toml"))
    "[U101] unknown key 'lr' (file: pyproject.toml). Hint: declare it first"
    """

    code: ClassVar[str] = "U000"

    def __init__(self, message: str, *, hint: str | None = None, **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = {name: value for name, value in context.items() if value is not None}

    def __str__(self) -> str:
        where = ", ".join(f"{name}: {value}" for name, value in self.context.items())
        text = f"[{self.code}] {self.message}"
        if where:
            text += f" ({where})"
        return f"{text}. Hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not pickle by themselves.
        return _rebuild, (type(self), self.message, self.hint, self.context)


def _rebuild(
    kind: type[UmbelError], message: str, hint: str | None, context: dict[str, object]
) -> UmbelError:
    return kind(message, hint=hint, **context)


class UsageError(UmbelError):
    """A call or a configuration is wrong; nothing was done."""

    code = "U100"


class ConfigError(UsageError):
    """A setting is unknown, has the wrong type, or contradicts another."""

    code = "U101"


class AppLoadError(UsageError):
    """The app named could not be found or imported."""

    code = "U102"


class RecordError(UsageError, ValueError):
    """A value cannot be held in a record, or a record is not what the caller expected."""

    code = "U103"


class MissingDependency(UsageError, ImportError):
    """An optional library is needed for this and is not installed."""

    code = "U104"


class PartitionError(UsageError, ValueError):
    """A data set cannot be cut into the clients asked for."""

    code = "U105"


class BundleError(UsageError, ValueError):
    """An app cannot be packed, or an archive is not an app that was packed here."""

    code = "U107"


class RoundError(UmbelError):
    """A round could not finish."""

    code = "U200"


class NotEnoughNodes(RoundError):
    """Fewer nodes are connected than the strategy asks for."""

    code = "U201"


class NotEnoughReplies(RoundError):
    """Fewer usable replies came back than ``min_completion`` asks for."""

    code = "U202"


class AggregationError(RoundError):
    """Replies came back but cannot be combined."""

    code = "U203"


class RejectedReply(RoundError):
    """One reply cannot be used; the others can."""

    code = "U204"


class PrivacyBudgetExhausted(RoundError):
    """The next release would cost more privacy than is left; it was not made."""

    code = "U205"


class PeerError(UmbelError):
    """Another process or machine misbehaved."""

    code = "U300"


class NodeLost(PeerError):
    """The process that ran a client ended before it replied."""

    code = "U301"


class ReplyTimeout(PeerError):
    """No reply came within the time allowed."""

    code = "U302"


class ProtocolError(PeerError, ValueError):
    """Bytes from a peer do not follow the format."""

    code = "U303"


class VersionMismatch(PeerError):
    """The two sides speak no common version."""

    code = "U304"


class Unreachable(PeerError):
    """The server does not answer, or the connection to it was lost."""

    code = "U305"


class Overloaded(PeerError):
    """A bound on size, number or time was reached."""

    code = "U306"


class NotFound(PeerError):
    """What was asked for does not exist, or not for this caller."""

    code = "U307"


class StoreFull(Overloaded):
    """There is no room for an object: a store's bound is reached, or its disk is full."""

    code = "U308"


class SecurityError(UmbelError):
    """A request was refused, to keep out what must not come in."""

    code = "U400"


class NotAuthenticated(SecurityError):
    """The caller has not proved who it is."""

    code = "U401"


class NotAllowed(SecurityError):
    """The caller is known and may not do this."""

    code = "U402"


class BadSignature(SecurityError):
    """A signature is missing, is not valid, or was made by a key that is not trusted."""

    code = "U403"


class TokenExpired(SecurityError):
    """A join token was used after its time."""

    code = "U404"


class TokenUsed(SecurityError):
    """A join token was used before, and works once."""

    code = "U405"


class Revoked(SecurityError):
    """The caller's certificate was good and has been revoked."""

    code = "U406"


class SecAggAborted(SecurityError):
    """Secure aggregation stopped before anything that it protects was given away."""

    code = "U407"


class PolicyRefused(SecurityError):
    """The policy of a node's owner does not let a message in, or its reply out.

    The text leaves the node, and so tells nothing that comes from its data or was chosen by the
    app. What the owner may know besides stands in the notes of the exception (``add_note``).
    """

    code = "U408"


class StateError(UmbelError):
    """Umbel itself is at fault; please report it."""

    code = "U500"


class InvalidTransition(StateError):
    """An event reached a state machine in a state where it cannot happen."""

    code = "U501"


class JournalCorrupt(StateError):
    """The journal on disk is not what was written to it."""

    code = "U502"
