import pytest

from umbel.base import SYSTEM_CLOCK, VirtualClock


def test_a_virtual_clock_moves_only_when_told():
    clock = VirtualClock(start=5.0)
    assert clock.now() == clock.monotonic() == 5.0
    clock.advance(1.5)
    clock.sleep(0.5)
    assert clock.now() == clock.monotonic() == 7.0


def test_no_clock_goes_back():
    clock = VirtualClock()
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
    assert clock.now() == 0.0


def test_the_system_clock_goes_on():
    before = SYSTEM_CLOCK.monotonic()
    SYSTEM_CLOCK.sleep(0.001)
    assert SYSTEM_CLOCK.monotonic() >= before + 0.001
    assert SYSTEM_CLOCK.now() > 1_700_000_000
