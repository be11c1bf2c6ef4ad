import doctest
from pathlib import Path

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "name",
    ["strategies.md", "secure-aggregation.md", pytest.param("privacy.md", marks=pytest.mark.slow)],
)
def test_every_code_block_of_a_page_gives_what_it_shows(name):
    page, options = DOCS / name, doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(
        str(page), module_relative=False, encoding="utf-8", optionflags=options
    )
    assert result.failed == 0
    assert result.attempted >= page.read_text(encoding="utf-8").count("```pycon") > 0
