from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_memory_does_not_grow_with_clients(apps):
    """All processes together: of 900 replies more, 1 MB each, none is held at the end.

    What grows is the depth of the reduction tree, and there is a message a client.
    """

    def peak(clients: int) -> int:
        program = [sys.executable, str(apps / "as_measured_script.py"), str(clients)]
        return int(subprocess.check_output(program, text=True))

    assert peak(1000) - peak(100) < 32e6
