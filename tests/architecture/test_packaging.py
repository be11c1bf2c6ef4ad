"""The wheel holds the whole package: code, type marker, templates, licence, command."""

import zipfile

import pytest
from hatchling.build import build_wheel


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
        commands = wheel.read("umbel-0.1.0.dist-info/entry_points.txt").decode()
    expected = {
        path.relative_to(root / "src").as_posix()
        for path in (root / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "umbel/py.typed" in expected
    assert expected - names == set()
    assert {name for name in names if "/licenses/" in name} == {
        "umbel-0.1.0.dist-info/licenses/LICENSE"
    }
    assert "umbel = umbel.cli:main" in commands
