"""``docs/run-folder.md`` tells what a run leaves, all of it."""

import ast
import hashlib
import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.records import ArrayRecord, MetricRecord, RecordDict, decode
from umbel.serverapp import RunLog, read_log
from umbel.strategies import FedAvg

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", PAGE, re.MULTILINE)
FIELDS = {e: sorted(set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", r)))) for e, r in ROWS}


def told() -> list[tuple[str, str, list[str]]]:
    """Return every ``run.emit`` and ``run.notify`` in the source: where, event and fields."""
    found = []
    for path in sorted((ROOT / "src" / "umbel").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ("emit", "notify") and isinstance(node.args[0], ast.Constant):
                fields = sorted(str(keyword.arg) for keyword in node.keywords)
                found.append((f"{path.name}:{node.lineno}", node.args[0].value, fields))
    return found


@pytest.mark.parametrize(("where", "event", "fields"), told(), ids=lambda value: str(value)[:40])
def test_every_event_is_described_with_its_fields(where, event, fields):
    assert FIELDS.get(event) == fields


def test_no_event_is_described_that_is_never_told():
    assert set(FIELDS) == {event for _, event, _ in told()}


def test_a_run_leaves_what_the_page_says(federate, tmp_path, monkeypatch):
    def client(message, context):
        arrays = ArrayRecord({"w": message.content["arrays"]["w"].view() + 1})
        metrics = MetricRecord({"num-examples": 1, "loss": float("nan")})
        return RecordDict({"arrays": arrays, "metrics": metrics})

    folder = tmp_path / "runs" / "one"
    result = federate(
        FedAvg(),
        client,
        initial=ArrayRecord({"w": np.zeros(2)}),
        num_rounds=2,
        evaluate_fn=lambda r, arrays: MetricRecord({"r": r}),
        simulation={"run_dir": folder},
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "log.jsonl",
        "metrics.jsonl",
        "model.safetensors",
    ]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [(m["round"], m["phase"]) for m in metrics] == [
        (0, "server"),
        *((r, phase) for r in (1, 2) for phase in ("train", "evaluate", "server")),
    ]
    assert metrics[1]["metrics"] == {"loss": "NaN"}

    model = (folder / "model.safetensors").read_bytes()
    assert decode(model)["arrays"] == result.arrays
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "run_finished"
    assert last["data"]["model_sha256"] == hashlib.sha256(model).hexdigest()

    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(folder)
    exec(code, {})
    log = Path("log.jsonl").read_text()
    Path("log.jsonl").write_text(log.replace('"round": 1', '"round": 9', 1))
    with pytest.raises(AssertionError):
        exec(code, {})


@pytest.mark.parametrize("resumable", [False, True])
def test_a_folder_that_cannot_be_made(federate, tmp_path, resumable):
    (tmp_path / "runs").touch()
    simulation = {"run_dir": tmp_path / "runs" / "one", "resumable": resumable}
    with pytest.raises(ConfigError, match=r"folder of the run cannot be written: Not a directory"):
        federate(FedAvg(), None, simulation=simulation)


def test_a_file_that_cannot_be_written_is_named_and_the_run_fails(federate, tmp_path):
    def client(message, context):
        (tmp_path / "model.safetensors").mkdir(exist_ok=True)
        return RecordDict(
            {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
        )

    initial = ArrayRecord({"w": np.zeros(2)})
    with pytest.raises(OSError, match=r"model\.safetensors"):
        federate(FedAvg(), client, initial=initial, simulation={"run_dir": tmp_path})
    *_, last = read_log(tmp_path / "log.jsonl")
    assert (last.event, last.data["status"]) == ("run_failed", "failed")


def test_a_disk_without_room_is_told_with_the_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = RunLog(tmp_path / "log.jsonl")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*log\.jsonl'"):
            log.append("run_started")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.close()
