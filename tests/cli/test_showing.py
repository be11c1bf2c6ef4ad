"""``umbel ls``, ``show``, ``rm`` and ``plot`` on folders that runs left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

WriteRun = Callable[..., Path]


def test_ls_lists_the_newest_first(umbel: Callable[..., Result], write_run: WriteRun) -> None:
    write_run("20270101-1", at=1.0)
    write_run("20270101-2", at=2.0, status="failed")
    write_run("20270101-3", at=3.0, status="unfinished", rounds=1)
    result = umbel("ls")
    assert result.exit_code == 0
    rows = [line for line in result.stdout.splitlines() if "20270101" in line]
    assert [row.split()[0] for row in rows] == ["20270101-3", "20270101-2", "20270101-1"]
    assert [row.split()[2] for row in rows] == ["unfinished", "failed", "succeeded"]
    assert "loss 1  accuracy 0.7" in rows[2]
    assert "1/1" in rows[0]


def test_ls_json(umbel: Callable[..., Result], write_run: WriteRun) -> None:
    write_run("a", at=1.0)
    (write_run("b", at=2.0) / "log.jsonl").write_text("?\n")
    answer = json.loads(umbel("ls", "--json").stdout)
    assert answer["success"] is True
    assert {run["run-id"]: run["status"] for run in answer["runs"]} == {
        "a": "succeeded",
        "b": "unreadable",
    }


def test_ls_puts_a_run_without_a_line_where_it_was_made(
    umbel: Callable[..., Result], write_run: WriteRun
) -> None:
    for name, at in (("first", 1.0), ("second", 2.0), ("third", 3.0)):
        log = write_run(name, at=at) / "log.jsonl"
        if name == "second":
            log.write_text("")
            os.utime(log, (at, at))
    runs = json.loads(umbel("ls", "--json").stdout)["runs"]
    assert [(run["run-id"], run["status"]) for run in runs] == [
        ("third", "succeeded"),
        ("second", "empty"),
        ("first", "succeeded"),
    ]


def test_ls_of_nothing(umbel: Callable[..., Result]) -> None:
    result = umbel("ls")
    assert result.exit_code == 0
    assert "No runs in runs" in result.stdout
    assert json.loads(umbel("ls", "--json").stdout) == {"success": True, "runs": []}


@pytest.mark.parametrize("command", [["ls"], ["show", "latest"]])
def test_a_file_is_no_folder_of_runs(
    umbel: Callable[..., Result], tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "notes.txt").write_text("?")
    result = umbel(*command, "--runs-dir", str(tmp_path / "notes.txt"))
    assert result.exit_code == 2
    assert "is a file, not a folder of runs" in " ".join(result.stderr.split())


def test_show(umbel: Callable[..., Result], write_run: WriteRun) -> None:
    write_run("20270101-1")
    text = umbel("show", "2027").stdout
    for fact in ("succeeded", "seed", "7", "2027-01-15 08:00:00 UTC", "ab" * 32, "lr", "whole"):
        assert fact in text
    assert "round 1 train: node 4 failed: ValueError: no [data]" in text
    assert "note = [a] :bug:" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["0", "1", "2"]
    assert rows[2][1::2] == ["2", "0.5", "0.5", "1", "0.7", "0", "0.5"]


def test_show_of_a_failed_run_ends_with_the_traceback(
    umbel: Callable[..., Result], write_run: WriteRun
) -> None:
    write_run("r", status="failed")
    text = umbel("show", "r").stdout
    assert "failed: it broke" in text
    assert text.endswith("File x\n")


def test_show_json(umbel: Callable[..., Result], write_run: WriteRun) -> None:
    folder = write_run("r", status="failed")
    answer = json.loads(umbel("show", "latest", "--json").stdout)
    assert answer["success"] is True
    assert answer["status"] == "failed"
    assert (answer["error"], answer["traceback"]) == ("it broke", "File x")
    assert answer["run_config"] == {"lr": 0.1, "note": "[a] :bug:"}
    assert answer["metrics_by_round"]["server"]["0"] == {"accuracy": 0.1}
    assert answer["failures"][0]["node_id"] == 4
    assert answer["log"] == {"whole": True, "problem": None}
    assert Path(answer["run_dir"]).resolve() == folder


def test_show_tells_that_a_log_was_changed(
    umbel: Callable[..., Result], write_run: WriteRun
) -> None:
    log = write_run("r") / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace("[3, 4]", "[3, 5]")
    log.write_text("".join(lines))
    assert "line 5: the run log was changed" in umbel("show", "r").stdout
    assert json.loads(umbel("show", "r", "--json").stdout)["log"]["whole"] is False


def test_show_of_no_run(umbel: Callable[..., Result]) -> None:
    result = umbel("show", "x")
    assert result.exit_code == 2
    assert "no run 'x'" in result.stderr
    assert "umbel ls" in result.stderr
    answer = json.loads(umbel("show", "x", "--json").stdout)
    assert answer["success"] is False
    assert answer["error-code"] == "U101"


def test_rm_removes_a_run_that_is_over(
    umbel: Callable[..., Result], write_run: WriteRun, tmp_path: Path
) -> None:
    gone, kept = write_run("a-1", status="failed"), write_run("b-1")
    result = umbel("rm", "a")
    assert (result.exit_code, result.stdout) == (0, "a-1 removed\n")
    assert not gone.exists()
    assert kept.exists()
    told = json.loads(umbel("rm", "latest", "--json").stdout)
    assert told == {"success": True, "run-id": "b-1", "status": "removed"}
    assert list((tmp_path / "runs").iterdir()) == []


def test_rm_of_no_name_and_of_the_folder_that_one_is_in(
    umbel: Callable[..., Result], write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run("a")
    monkeypatch.chdir(folder)
    for runs in (folder, folder.parent):
        result = umbel("rm", "", "--runs-dir", str(runs))  # a variable that is not set, say
        assert result.exit_code == 2
        assert "no run ''" in result.stderr
    assert umbel("rm", ".").stdout == "a removed\n"
    assert not folder.exists()


def test_rm_leaves_a_run_that_may_be_going_on(
    umbel: Callable[..., Result], write_run: WriteRun
) -> None:
    folder = write_run("a", status="unfinished")
    result = umbel("rm", "a")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    (folder / "checkpoints").mkdir()
    lock = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, 2); print(); input()"
    command = [sys.executable, "-c", lock, str(folder / "checkpoints" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        result = umbel("rm", "a", "--force")
        holder.communicate(b"\n")
    assert result.exit_code == 2
    assert "at work on this run" in result.stderr
    assert umbel("rm", "a", "--force").exit_code == 0
    assert not folder.exists()


def test_force_is_not_for_servers(umbel: Callable[..., Result]) -> None:
    result = umbel("rm", "a", "--on", "there", "--force")
    assert result.exit_code == 2
    assert "a server knows" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("deep/a.svg", b"<?xml")])
def test_plot(
    umbel: Callable[..., Result], write_run: WriteRun, tmp_path: Path, name: str, begin: bytes
) -> None:
    write_run("r")
    result = umbel("plot", "r", "--out", name)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{name}\n"
    picture = (tmp_path / name).read_bytes()
    assert picture.startswith(begin)
    if name.endswith("svg"):
        assert b"num-examples" not in picture


@pytest.mark.slow
def test_plot_into_the_folder_of_the_run(umbel: Callable[..., Result], write_run: WriteRun) -> None:
    folder = write_run("r")
    assert umbel("plot", "latest").exit_code == 0
    assert (folder / "metrics.png").stat().st_size > 1000


def test_plot_of_another_format_or_of_nothing(
    umbel: Callable[..., Result], write_run: WriteRun
) -> None:
    folder = write_run("r")
    result = umbel("plot", "r", "--out", "a.gif")
    assert result.exit_code == 2
    assert ".png or .svg" in result.stderr
    log = folder / "log.jsonl"
    log.write_text(log.read_text().splitlines(keepends=True)[0])
    result = umbel("plot", "r")
    assert result.exit_code == 2
    assert "no metrics to draw" in result.stderr
