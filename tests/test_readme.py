"""What the README promises, done as a reader would."""

import os
import re
import subprocess
import sys

import pytest


@pytest.fixture
def readme(request):
    return (request.config.rootpath / "README.md").read_text()


@pytest.mark.slow
def test_the_app_runs_and_prints_what_its_comment_says(readme, request, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (promised,) = re.findall(r"print\(.*\)  # (.*)", code)
    (tmp_path / "app.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}
    out = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == promised


def test_every_link_leads_somewhere(request):
    root = request.config.rootpath
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)", page.read_text())
    ]
    assert links
    broken = [
        f"{page.relative_to(root)}: {link}"
        for page, link in links
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not broken, "\n".join(broken)
