import doctest
from pathlib import Path

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"


@pytest.mark.slow
def test_every_code_block_of_the_page_gives_what_it_shows():
    options = doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(
        str(PAGE), module_relative=False, encoding="utf-8", optionflags=options
    )
    assert result.failed == 0
    assert result.attempted >= PAGE.read_text(encoding="utf-8").count("```pycon") > 0
