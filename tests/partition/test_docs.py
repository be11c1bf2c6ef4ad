import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "partitioning.md"


@pytest.mark.slow
def test_every_code_block_of_the_page_gives_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted >= PAGE.read_text(encoding="utf-8").count("```pycon") > 0
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "heatmap.svg").read_bytes()
