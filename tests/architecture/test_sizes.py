"""Files, functions and lines stay small, and names say what a thing is."""

import ast
from pathlib import PurePosixPath

FILE_LINES = 400
FUNCTION_LINES = 70
COLUMNS = 100
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "constants"}


def code_lines(function) -> int:
    """Lines from ``def`` to the last one, less those of the docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def long_functions(source):
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = code_lines(node)
            if lines >= FUNCTION_LINES:
                yield (
                    f"{source.path}:{node.lineno}: {node.name} has {lines} lines of code, "
                    f"a function stays under {FUNCTION_LINES}"
                )


def long_lines(source):
    for number, line in enumerate(source.text.splitlines(), 1):
        if len(line) > COLUMNS:
            yield f"{source.path}:{number}: {len(line)} columns, a line has at most {COLUMNS}"


def empty_names(source):
    for part in PurePosixPath(source.path).parts:
        if part.removesuffix(".py") in EMPTY_NAMES:
            yield f"{source.path}:1: {part!r} says nothing; name it for what it holds"


def test_a_file_stays_under_400_lines(all_sources):
    broken = [
        f"{source.path}:{lines}: {lines} lines, a file stays under {FILE_LINES}"
        for source in all_sources
        if (lines := len(source.text.splitlines())) >= FILE_LINES
    ]
    assert not broken, "\n".join(broken)


def test_a_function_stays_under_70_lines(all_sources):
    broken = [line for source in all_sources for line in long_functions(source)]
    assert not broken, "\n".join(broken)


def test_a_line_has_at_most_100_columns(all_sources):
    broken = [line for source in all_sources for line in long_lines(source)]
    assert not broken, "\n".join(broken)


def test_no_file_or_folder_has_a_name_that_says_nothing(all_sources):
    broken = [line for source in all_sources for line in empty_names(source)]
    assert not broken, "\n".join(broken)


def test_the_docstring_of_a_function_does_not_count(source):
    body = "\n".join(["    x = 1"] * 68)
    docstring = '    """One.\n\n    Two.\n    """\n'
    assert not list(long_functions(source("a.py", f"def f():\n{docstring}{body}\n")))
    (found,) = long_functions(source("a.py", f"def f():\n{docstring}{body}\n    return x\n"))
    assert found == "a.py:1: f has 70 lines of code, a function stays under 70"


def test_long_lines_and_empty_names_are_found(source):
    (line,) = long_lines(source("a.py", "x = 1\n" + "#" * 101))
    assert line.startswith("a.py:2: 101 columns")
    (name,) = empty_names(source("src/umbel/utils/a.py", ""))
    assert "'utils' says nothing" in name
