from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_memory_does_not_grow_with_clients(apps):
    """All processes together, for a model of 1 MB: each reply is added and forgotten."""

    def peak(clients: int) -> int:
        program = [sys.executable, str(apps / "as_measured_script.py"), str(clients)]
        return int(subprocess.check_output(program, text=True))

    assert peak(1000) < 1.2 * peak(100)
