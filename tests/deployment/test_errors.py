import grpc
import grpc.aio
import pytest

from umbel.base import (
    AggregationError,
    NotFound,
    Overloaded,
    PeerError,
    ProtocolError,
    StateError,
    UmbelError,
    Unreachable,
    VersionMismatch,
)
from umbel.deployment.errors import mapped, status_of


def arrived(status, detail):
    nothing = grpc.aio.Metadata()
    return mapped(grpc.aio.AioRpcError(status, nothing, nothing, details=detail))


@pytest.mark.parametrize(
    "kind", [NotFound, Overloaded, ProtocolError, VersionMismatch, StateError, AggregationError]
)
def test_an_error_arrives_as_what_it_was(kind):
    error = arrived(*status_of(kind("it is gone", hint="look again")))
    assert type(error) is kind
    assert (error.message, error.hint) == ("it is gone", "look again")


def test_where_it_happened_travels_in_the_text():
    error = arrived(*status_of(NotFound("no such run", run="a|b")))
    assert error.message == "no such run (run: a/b)"
    assert error.hint is None


def test_a_text_of_any_length_fits_into_the_headers():
    _, detail = status_of(UmbelError("x" * 10**6, hint="y" * 10**6))
    assert len(detail) < 8_000


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unreachable),
        (grpc.StatusCode.UNIMPLEMENTED, VersionMismatch),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.CANCELLED, PeerError),
        (grpc.StatusCode.INTERNAL, PeerError),
    ],
)
def test_what_grpc_says_by_itself_is_an_error_of_the_tree_too(status, kind):
    error = arrived(status, "Received RST_STREAM | with a bar")
    assert type(error) is kind
    assert "RST_STREAM" in str(error)
    assert isinstance(error.__cause__, grpc.aio.AioRpcError)
