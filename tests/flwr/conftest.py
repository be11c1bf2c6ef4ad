"""``import flwr`` for one test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from umbel import flwr


@pytest.fixture
def installed() -> Iterator[None]:
    """Make ``flwr`` and ``flwr_datasets`` mean Umbel's while a test runs."""
    flwr.install()
    yield
    flwr.uninstall()
    assert not [name for name in sys.modules if name.partition(".")[0] in ("flwr", "flwr_datasets")]
