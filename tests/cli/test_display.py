"""What a run shows while it runs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from umbel.cli.display import LiveDisplay, PlainDisplay
from umbel.cli.history import RunHistory

FINISHED = {
    "round": 1,
    "phase": "train",
    "replies": 9,
    "failures": 1,
    "metrics": {"num-examples": 90, "gap": 3.0, "accuracy": 0.93751, "loss": 0.25},
    "seconds": 1.0,
}


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def shown(display: PlainDisplay, on: Console, events: list[tuple[str, dict[str, Any]]]) -> str:
    with display:
        for event, data in events:
            display._history.apply(event, data)
            display.update(event, data)
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def failure(node: int) -> tuple[str, dict[str, Any]]:
    where = {"round": 1, "phase": "train", "node_id": node}
    return "failure", where | {"kind": "KeyError", "message": "'[red]x'"}


def test_a_line_for_each_round() -> None:
    out = console(terminal=False)
    text = shown(
        PlainDisplay(out, RunHistory()),
        out,
        [
            ("run_started", {"run_id": "r"}),
            ("server_evaluated", {"round": 0, "metrics": {"loss": 2.3}, "seconds": 0.1}),
            ("round_started", {"round": 1, "num_rounds": 3}),
            ("phase_finished", FINISHED),
            ("server_evaluated", {"round": 1, "metrics": {"loss": 0.5}, "seconds": 0.1}),
            ("round_finished", {"round": 1, "num_rounds": 3, "seconds": 1.5}),
        ],
    )
    assert text.splitlines() == [
        "initial model  loss 2.3",
        "round 1/3 | train loss 0.25  accuracy 0.9375  gap 3 | server loss 0.5 | 1.50 s",
    ]


def test_what_a_run_waits_for_is_told() -> None:
    out = console(terminal=False)
    event = ("waiting", {"wanted": 3, "connected": 1, "timeout_s": 600.0})
    text = shown(PlainDisplay(out, RunHistory()), out, [event])
    assert text == (
        "waiting for nodes: 1 of 3 are connected; the run fails if they do not come within 600 s\n"
    )


def test_failures_are_told_as_they_come_and_then_counted() -> None:
    out = console(terminal=False)
    text = shown(
        PlainDisplay(out, RunHistory()),
        out,
        [
            ("round_started", {"round": 1, "num_rounds": 1}),
            *(failure(node) for node in range(8)),
            ("round_finished", {"round": 1, "num_rounds": 1, "seconds": 1.5}),
        ],
    )
    lines = text.splitlines()
    assert lines[0] == "round 1 train: node 0 failed: KeyError: '[red]x'"
    assert lines[4:] == [
        "round 1 train: node 4 failed: KeyError: '[red]x'",
        "... and 3 more failed",
        "round 1/1 | 8 failed | 1.50 s",
    ]


def test_a_run_that_ends_in_the_middle_of_a_round_still_counts() -> None:
    out = console(terminal=False)
    display = PlainDisplay(out, RunHistory(), show_rounds=False)
    text = shown(display, out, [failure(node) for node in range(7)])
    assert text.splitlines()[-1] == "... and 2 more failed"


def test_quiet_shows_failures_alone() -> None:
    out = console(terminal=False)
    text = shown(
        PlainDisplay(out, RunHistory(), show_rounds=False),
        out,
        [
            ("server_evaluated", {"round": 0, "metrics": {"loss": 2.3}, "seconds": 0.1}),
            ("round_started", {"round": 1, "num_rounds": 1}),
            failure(3),
            ("round_finished", {"round": 1, "num_rounds": 1, "seconds": 1.5}),
        ],
    )
    assert text == "round 1 train: node 3 failed: KeyError: '[red]x'\n"


def test_the_live_line_follows_the_round() -> None:
    out = console(terminal=True)
    display = LiveDisplay(out, RunHistory())
    progress = {"round": 1, "phase": "train", "done": 5, "total": 10, "failed": 0}
    seen = []
    with display:
        for event, data in [
            ("progress", progress | {"round": 0, "phase": ""}),
            ("strategy_started", {"strategy": "FedAvg", "num_rounds": 2}),
            ("round_started", {"round": 1, "num_rounds": 2}),
            ("phase_started", {"round": 1, "phase": "train", "cohort": 10, "nodes": []}),
            ("progress", progress),
            failure(3),
            ("phase_finished", FINISHED),
            ("progress", progress | {"phase": "evaluate"}),
            ("round_finished", {"round": 1, "num_rounds": 2, "seconds": 1.5}),
        ]:
            display._history.apply(event, data)
            display.update(event, data)
            task = display._progress.tasks[0]
            seen.append((task.description, task.completed, task.fields["metrics"]))
    assert seen[0] == ("messages 5/10", 0.0, "")
    assert seen[2] == ("round 1/2", 0.0, "")
    assert seen[3] == ("round 1/2  train 0/10", 0.0, "")
    assert seen[4] == ("round 1/2  train 5/10", 0.25, "")
    assert seen[7] == ("round 1/2  evaluate 5/10", 0.75, "loss 0.25  accuracy 0.9375")
    assert seen[8][1] == 1.0
    assert isinstance(out.file, io.StringIO)
    assert "node 3 failed" in out.file.getvalue()


@pytest.mark.parametrize("event", ["run_started", "run_finished", "budget_spent"])
def test_other_events_show_nothing(event: str) -> None:
    out = console(terminal=False)
    data = {"status": "succeeded", "seconds": 1.0}
    assert shown(PlainDisplay(out, RunHistory()), out, [(event, data)]) == ""
