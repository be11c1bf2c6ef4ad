import subprocess
import sys

import pytest


@pytest.mark.slow
def test_what_needs_no_certificate_does_not_load_cryptography(request):
    code = "import sys, umbel.deployment; print('cryptography' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(request.config.rootpath / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout == "False\n"
