"""Errors on the wire: one table between gRPC's statuses and the error tree.

The detail of a status is ``"U307|message|hint"``, so that an error arrives as what it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from umbel.base import (
    NotAuthenticated,
    NotFound,
    Overloaded,
    PeerError,
    ProtocolError,
    ReplyTimeout,
    SecurityError,
    StateError,
    UmbelError,
    Unreachable,
    UsageError,
    VersionMismatch,
)

T = TypeVar("T")
ServiceT = TypeVar("ServiceT")
RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
Context = grpc.aio.ServicerContext[Any, Any]

_STATUS: dict[type[UmbelError], grpc.StatusCode] = {
    NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    VersionMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unreachable: grpc.StatusCode.UNAVAILABLE,
    ReplyTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    ProtocolError: grpc.StatusCode.DATA_LOSS,
    UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    StateError: grpc.StatusCode.INTERNAL,
    SecurityError: grpc.StatusCode.PERMISSION_DENIED,
    PeerError: grpc.StatusCode.ABORTED,
    UmbelError: grpc.StatusCode.UNKNOWN,
}
"""A subclass that is not listed travels under the status of its nearest base."""

_KIND = {status: kind for kind, status in _STATUS.items()} | {
    grpc.StatusCode.UNIMPLEMENTED: VersionMismatch,
    grpc.StatusCode.INTERNAL: PeerError,  # gRPC's own: no fault of ours is proven
    grpc.StatusCode.UNKNOWN: PeerError,
}
_HINTS: dict[type[UmbelError], str] = {
    Unreachable: "is the address right, does the server run, and do both sides use TLS or neither?",
    VersionMismatch: "upgrade the older side",
}
_TEXT_MAX_CHARS = 2_000
"""Of message and hint: a status travels in HTTP headers, which are bounded."""


def status_of(error: UmbelError) -> tuple[grpc.StatusCode, str]:
    """Return the status and the detail under which an error travels.

    Examples
    --------
    >>> status_of(NotFound("no run 'a'", hint="see umbel ls"))[1]
    "U307|no run 'a'|see umbel ls"
    """
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    context = ", ".join(f"{name}: {value}" for name, value in error.context.items())
    message = f"{error.message} ({context})" if context else error.message
    parts = (text.replace("|", "/")[:_TEXT_MAX_CHARS] for text in (message, error.hint or ""))
    return status, "|".join((error.code, *parts))


async def abort_with(context: Context, error: UmbelError) -> NoReturn:
    """End a call at the server with this error."""
    status, detail = status_of(error)
    await context.abort(status, detail)


def refusing(
    method: Callable[[ServiceT, RequestT, Context], Coroutine[Any, Any, ReplyT]],
) -> Callable[[ServiceT, RequestT, Context], Coroutine[Any, Any, ReplyT]]:
    """Let a method of a service, one that returns its reply, end its call with what it raises."""

    @wraps(method)
    async def answer(service: ServiceT, request: RequestT, context: Context) -> ReplyT:
        try:
            return await method(service, request, context)
        except UmbelError as error:
            await abort_with(context, error)

    return answer


async def readable(incoming: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield what comes in a stream.

    Raises
    ------
    ProtocolError
        What came is not a message of the wire.
    """
    try:
        async for item in incoming:
            yield item
    except DecodeError as error:
        raise ProtocolError(
            "these bytes are no message of the wire", hint="see docs/wire.md"
        ) from error


def mapped(error: grpc.RpcError) -> UmbelError:
    """Return the error that a failed call means; the call's is its cause."""
    status = error.code() if isinstance(error, grpc.aio.AioRpcError | grpc.Call) else None
    detail = (error.details() if isinstance(error, grpc.aio.AioRpcError | grpc.Call) else "") or ""
    code, _, rest = detail.partition("|")
    message, bar, hint = rest.partition("|")
    kind = _by_code().get(code) if bar else None
    if kind is not None:
        result = kind(message, hint=hint or None)
    else:
        kind = _KIND.get(status, PeerError) if status else PeerError
        name = status.name if status else "UNKNOWN"
        result = kind(
            f"the connection failed: {detail or 'no reason'}", hint=_HINTS.get(kind), status=name
        )
    result.__cause__ = error
    return result


def may_pass(error: UmbelError) -> bool:
    """Whether the connection failed and not what was asked: the same may succeed later."""
    return type(error) in (Unreachable, PeerError)


def _by_code() -> dict[str, type[UmbelError]]:
    return {kind.code: kind for kind in _tree(UmbelError)}


def _tree(kind: type[UmbelError]) -> Iterator[type[UmbelError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)
