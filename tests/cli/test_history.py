"""A run's history is folded from its events."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from umbel.base import ConfigError
from umbel.cli.history import RunHistory, find_run, read_history, run_folders
from umbel.privacy import WITHOUT_NOISE

WriteRun = Callable[..., Path]


def test_reads_a_run(write_run: WriteRun) -> None:
    history = read_history(write_run("r1"))
    assert history.status == "succeeded"
    assert history.as_json() == {
        "run-id": "r1",
        "app": "demo",
        "status": "succeeded",
        "seed": 7,
        "backend": "processes",
        "nodes": 10,
        "rounds": 2,
        "model_sha256": "ab" * 32,
        "metrics": {
            "train": {"loss": 0.5, "num-examples": 20},
            "evaluate": {"loss": 0.5, "num-examples": 20},
            "server": {"accuracy": 0.7, "loss": 1.0},
        },
        "failures": 1,
        "privacy": None,
        "stopped": None,
        "seconds": 1.25,
    }
    assert history.metrics["server"][0] == {"accuracy": 0.1}
    assert history.round_seconds == {1: 0.5, 2: 0.5}
    assert history.failures[0]["node_id"] == 4
    assert history.started_at == 1_800_000_000.0


def test_a_failed_run(write_run: WriteRun) -> None:
    history = read_history(write_run("r1", status="failed"))
    assert (history.status, history.error) == ("failed", "it broke")
    assert history.model_sha256 is None


def test_a_run_that_was_killed_in_the_middle_of_a_line(write_run: WriteRun) -> None:
    folder = write_run("r1", status="unfinished")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"seq": 99, "event": "round_st')
    history = read_history(folder)
    assert history.status == "unfinished"
    assert history.rounds == 2


@pytest.mark.parametrize("line", ["{]\n", "3\n", "[]\n", '{"event": "round_started"}\n'])
def test_a_line_that_no_run_writes(write_run: WriteRun, line: str) -> None:
    folder = write_run("r1")
    with (folder / "log.jsonl").open("a") as log:
        log.write(line)
    with pytest.raises(ConfigError, match="line 20 of the log") as caught:
        read_history(folder)
    assert caught.value.context["file"] == folder / "log.jsonl"


def test_a_folder_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the run's log"):
        read_history(tmp_path)


def test_events_of_a_later_release_are_passed_over() -> None:
    history = RunHistory()
    history.apply("budget_spent", {"epsilon": 1.0})
    assert history == RunHistory()


def test_runs_are_sorted_by_their_beginning(write_run: WriteRun) -> None:
    older, newer = write_run("b-9", at=10.0), write_run("b-1", at=11.0)
    assert run_folders(newer.parent) == [newer, older]
    assert find_run("latest", newer.parent) == newer


def test_an_unreadable_log_is_the_oldest(write_run: WriteRun) -> None:
    newer, broken = write_run("a"), write_run("b")
    (broken / "log.jsonl").write_text("?")
    assert run_folders(newer.parent) == [newer, broken]


def test_finds_a_run_by_id_start_or_path(write_run: WriteRun, tmp_path: Path) -> None:
    first, second = write_run("20270101-1"), write_run("20270101-12")
    runs = first.parent
    assert find_run("20270101-1", runs) == first
    assert find_run("20270101-12", runs) == second
    assert find_run(str(second), tmp_path) == second
    with pytest.raises(ConfigError, match="2 runs start with '2027'"):
        find_run("2027", runs)
    with pytest.raises(ConfigError, match="no run 'x'"):
        find_run("x", runs)
    with pytest.raises(ConfigError, match="no runs in"):
        find_run("latest", tmp_path / "nowhere")


def test_a_loss_that_diverged_is_still_a_number() -> None:
    history = RunHistory()
    metrics = {"loss": "NaN", "worst": "-Infinity", "accuracy": 0.1}
    history.apply("server_evaluated", {"round": 1, "metrics": metrics, "seconds": 0.1})
    loss, worst, accuracy = history.metrics["server"][1].values()
    assert math.isnan(loss)
    assert (worst, accuracy) == (-math.inf, 0.1)


def test_training_without_privacy_is_named_beside_the_statement() -> None:
    statement = {"epsilon": 1.0, "not_covered": ["metrics"]}
    trained = ("phase_finished", {"phase": "train", "round": 1, "metrics": {}})
    started = ("strategy_started", {"num_rounds": 1})
    spent = ("privacy_spent", {"statement": statement})
    history = RunHistory()
    for event, data in (started, spent, trained):
        history.apply(event, data)
    assert history.privacy == statement
    for event, data in (started, trained, trained):
        history.apply(event, data)
    assert history.privacy["not_covered"] == ["metrics", WITHOUT_NOISE]
    assert statement["not_covered"] == ["metrics"]
