"""Apps to pack."""

import pytest

PROJECT = """\
[project]
name = "demo"
version = "1.2"

[tool.umbel.app.components]
serverapp = "demo.app:server"
clientapp = "demo.app:client"
"""


def write_app(folder, files=None):
    """Write an app with these files, path -> bytes, beside its ``pyproject.toml``."""
    files = {"demo/__init__.py": b"", "demo/app.py": b"x = 1\n"} if files is None else files
    for path, data in {"pyproject.toml": PROJECT.encode(), **files}.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder


@pytest.fixture
def app_writer():
    """The function itself, for tests that choose the files."""
    return write_app


@pytest.fixture
def app(tmp_path):
    return write_app(tmp_path / "app")
