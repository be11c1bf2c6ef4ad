"""Every promise of the threat model names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def names_in(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


def test_tests_that_play_an_attacker_exist() -> None:
    rows = (ROOT / "docs/threat-model.md").read_text().splitlines()
    rows = [row for row in rows if row.startswith("| **")]
    assert len(rows) == 13
    for row in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert tests, row
        for file, name in tests:
            assert name in names_in(ROOT / file), f"{file} has no {name}"
