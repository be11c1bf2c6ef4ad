"""What a user sees when something goes wrong."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest
import typer

from umbel.base import ConfigError, NotEnoughReplies
from umbel.cli.problems import (
    error_as_json,
    exit_status,
    print_error,
    print_json,
    reported,
    short_stack,
)

WRONG = ConfigError("no [such] key", hint="look again", key="lr")


def test_an_error_of_umbel_is_a_panel_with_its_hint(capfd: pytest.CaptureFixture[str]) -> None:
    print_error(WRONG)
    out, err = capfd.readouterr()
    assert out == ""
    for part in ("ConfigError U101", "no [such] key", "key: lr", "Hint: look again"):
        assert part in err
    assert "Traceback" not in err


def test_an_error_of_the_app_comes_with_the_lines_of_the_app(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "server_app.py"
    module.write_text("def main():\n    return 1 / 0\n")
    scope: dict[str, object] = {}
    exec(compile(module.read_text(), str(module), "exec"), scope)
    main = scope["main"]
    assert callable(main)
    with pytest.raises(ZeroDivisionError) as caught:
        main()
    assert short_stack(caught.value, tmp_path) == "server_app.py:2 in main: return 1 / 0"
    assert short_stack(caught.value, tmp_path / "elsewhere") == ""
    print_error(caught.value, tmp_path)
    err = capfd.readouterr().err
    assert "division by zero" in err
    assert "server_app.py:2 in main" in err
    assert "test_problems.py" not in err


def test_ctrl_c_is_one_word(capfd: pytest.CaptureFixture[str]) -> None:
    print_error(KeyboardInterrupt())
    assert capfd.readouterr().err == "Interrupted.\n"


def test_exit_statuses() -> None:
    assert exit_status(WRONG) == 2
    assert exit_status(WRONG, learning_began=True) == 1
    assert exit_status(NotEnoughReplies("none")) == 1
    assert exit_status(ValueError()) == 1
    assert exit_status(KeyboardInterrupt()) == 130


def test_errors_as_json() -> None:
    assert error_as_json(WRONG) == {
        "success": False,
        "error-code": "U101",
        "error-message": "no [such] key (key: lr)",
        "hint": "look again",
    }
    assert error_as_json(ValueError("x"))["error-message"] == "ValueError: x"
    assert error_as_json(KeyboardInterrupt())["error-code"] == "interrupted"


def test_reported_turns_an_error_into_an_exit(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, reported(as_json=True):
        raise WRONG
    assert caught.value.exit_code == 2
    out, err = capfd.readouterr()
    assert json.loads(out)["error-code"] == "U101"
    assert "no [such] key" in err


def test_json_has_no_nan(capfd: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5, {"b": (math.inf, "c")}], 3: True})
    expected = {"a": ["NaN", 1.5, {"b": ["Infinity", "c"]}], "3": True}
    assert json.loads(capfd.readouterr().out) == expected


def test_a_folder_that_cannot_be_used_is_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, reported(as_json=True):
        raise PermissionError(errno.EACCES, "Permission denied", "umbel-node")
    assert caught.value.exit_code == 2
    out, err = capfd.readouterr()
    assert "Permission denied" in json.loads(out)["error-message"]
    assert "file: umbel-node" in err
    with pytest.raises(BrokenPipeError), reported():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
