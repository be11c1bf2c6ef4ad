"""What is told of errors: an exception's text, its name, and how a process ends can carry data."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

from umbel.base import UmbelError
from umbel.clientapp.policy.rules import Policy
from umbel.records import ErrorCode


def _names(kind: type[BaseException]) -> Iterator[str]:
    yield kind.__name__
    for child in kind.__subclasses__():
        yield from _names(child)


# Made when this is imported: an app that shares the process may add exceptions later.
_KINDS = frozenset(
    name
    for name, thing in vars(builtins).items()
    if isinstance(thing, type) and issubclass(thing, BaseException)
) | frozenset(_names(UmbelError))
_CODES = frozenset(
    {
        ErrorCode.LOAD_CLIENT_APP_EXCEPTION,
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.CLIENT_APP_CRASHED,
    }
)


def told_failure(policy: Policy, code: int, kind: str, reason: str) -> tuple[int, str, str]:
    r"""Return what leaves the node of an error that an app made.

    Parameters
    ----------
    policy : Policy
        The node's.
    code, kind, reason
        The error as the app's process tells it, which may be anything.

    Examples
    --------
    >>> from umbel.clientapp.policy.document import parse_policy
    >>> policy = parse_policy('contact = "dpo@clinic"\n[messages]\ntypes = ["train"]')
    >>> told_failure(policy, 2, "ValueError", "Mrs Smith, born 1950")[1:]
    ('ValueError',
     "the node's policy ([errors]) withholds the text. Hint: turn to dpo@clinic")
    >>> told_failure(policy, 2, "MrsSmithBorn1950", "")[1]
    'Exception'
    """
    if policy.errors == "text":
        return code, kind, reason
    withheld = "the node's policy ([errors]) withholds the text. Hint: turn to " + policy.contact
    if policy.errors == "nothing":
        return int(ErrorCode.UNKNOWN), "Exception", withheld
    known_code = code if code in _CODES else ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    return int(known_code), kind if kind in _KINDS else "Exception", withheld
