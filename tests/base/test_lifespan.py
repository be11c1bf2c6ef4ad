"""entered: one yield, tear-down in every case, and the first error stays the first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from umbel.base import UsageError, check_lifespan, entered


def test_tear_down_runs_without_finally_when_the_body_raises() -> None:
    seen: list[str] = []

    def lifespan(name: str) -> Iterator[None]:
        seen.append(f"open {name}")
        yield
        seen.append("close")

    with pytest.raises(KeyError), entered(lifespan, "a"):
        raise KeyError("body")
    assert seen == ["open a", "close"]


def test_the_bodys_error_stays_when_tear_down_fails() -> None:
    def lifespan(name: str) -> Iterator[None]:
        yield
        raise OSError("disk full")

    with pytest.raises(KeyError) as caught, entered(lifespan, "a"):
        raise KeyError("body")
    assert "disk full" in caught.value.__notes__[0]


def test_no_yield() -> None:
    def lifespan(name: str) -> Iterator[None]:
        if name == "never":
            yield

    with pytest.raises(UsageError, match=r"lifespan.*never yields"), entered(lifespan, "a"):
        pytest.fail("the body must not run")


def test_two_yields_close_the_generator() -> None:
    seen: list[str] = []

    def lifespan(name: str) -> Iterator[None]:
        try:
            yield
            yield
        finally:
            seen.append("closed")

    with pytest.raises(UsageError, match="more than once"), entered(lifespan, "a"):
        seen.append("body")
    assert seen == ["body", "closed"]


def test_check_refuses_a_plain_function() -> None:
    with pytest.raises(UsageError, match="print is not a generator function"):
        check_lifespan(print)
