"""What the tests of deployment share."""

import pytest

from umbel.base import VirtualClock
from umbel.deployment.authority import Authority

NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOW)


@pytest.fixture
def authority(tmp_path, clock) -> Authority:
    return Authority.create(tmp_path / "authority", "clinics", clock=clock)
