"""Where apps come from, and what is said when they cannot be had."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import threading
import traceback

import pytest

from umbel.base import AppLoadError, ConfigError, NodeLost
from umbel.clientapp import ClientApp
from umbel.records import ConfigRecord, Message, RecordDict
from umbel.serverapp import ServerApp, read_log
from umbel.simulation import run_simulation
from umbel.simulation.processes import ProcessExecutor
from umbel.simulation.resources import Resources
from umbel.simulation.tasks import AppSpec

BACKENDS = pytest.mark.parametrize(
    "backend", ["inprocess", pytest.param("processes", marks=pytest.mark.slow)]
)


@pytest.fixture
def count(run_main, requests):
    """Simulate a client app and return how many nodes answered."""

    def run(client_app, backend, **options):
        def main(grid):
            replies = list(grid.send_and_receive(requests(range(4))))
            return sum(reply.has_content() for reply in replies)

        return run_main(main, 4, backend, client_app=client_app, **options)

    return run


@BACKENDS
def test_an_app_by_name(backend, count):
    assert count("sim_app:app", backend) == 4


@BACKENDS
def test_an_app_that_is_an_object_of_this_program(backend, count):
    app, secret = ClientApp(), {"of": "the closure"}

    @app.query()
    def answer(message, context):
        return Message(RecordDict({"c": ConfigRecord(secret)}), reply_to=message)

    assert count(app, backend) == 4


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["inprocess", "processes"])
def test_an_app_that_a_script_defines(backend, apps):
    """What its clients print is seen, each line once."""
    program = [sys.executable, str(apps / "as_script.py"), backend]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        program, capture_output=True, text=True, timeout=60, check=False, env=buffered
    )
    assert done.stderr == ""
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[-1] == "model [1.0, 1.0, 1.0]"
    assert sorted(lines[:-1]) == sorted(f"node {i} trains" for i in range(4) for _ in range(2))


@BACKENDS
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_app:app", "no module named 'no_such_app'"),
        ("sim_app:ap", "did you mean 'app'"),
        ("other_app:app", "is a dict, not a ClientApp"),
        ("sim_app.py:app", "names a file"),
        ("broken_app:app", "LookupError while it was imported: the data set is not here"),
    ],
)
def test_an_app_that_cannot_be_had(name, text, backend, count):
    with pytest.raises(AppLoadError, match=text) as caught:
        count(name, backend)
    if name.startswith("broken"):
        assert caught.value.context["file"].endswith("broken_app.py")
        told = "".join(traceback.format_exception(caught.value))
        assert 'raise LookupError("the data set is not here")' in told


@pytest.mark.slow
def test_where_neither_app_can_be_had_one_error_is_told(apps, capfd):
    with pytest.raises(AppLoadError, match="no module named 'no_such_app'"):
        run_simulation("no_such_app:app", "broken_app:app", 2, app_dir=apps)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_app_whose_import_never_ends(count, tmp_path, monkeypatch):
    (tmp_path / "endless_app.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("umbel.simulation.launcher._LOAD_S", 0.1)
    with pytest.raises(AppLoadError, match=r"not imported within 0\.1 s"):
        count("endless_app:app", "processes")


@pytest.mark.slow
def test_an_app_whose_import_ends_the_process(count, monkeypatch):
    monkeypatch.setenv("UMBEL_TEST_END", "1")
    with pytest.raises(AppLoadError, match="exit code 7"):
        count("other_app:app", "processes")


@pytest.mark.slow
def test_an_app_that_cannot_be_carried(count):
    app, lock = ClientApp(), threading.Lock()

    @app.query()
    def answer(message, context):
        return lock

    with pytest.raises(AppLoadError, match="cannot be carried"):
        count(app, "processes")


@BACKENDS
@pytest.mark.parametrize("wrong", [7, {"app": 1}, ServerApp()])
def test_something_that_is_no_client_app(wrong, backend, count):
    with pytest.raises(AppLoadError, match="not a ClientApp"):
        count(wrong, backend)


def test_something_that_is_no_server_app():
    with pytest.raises(AppLoadError, match="is a ClientApp, not a ServerApp"):
        run_simulation(ClientApp(), ClientApp(), 2, "inprocess")


@pytest.mark.parametrize("nodes", [0, -1, 1.5, "3", True])
def test_a_number_of_nodes_that_is_none(nodes):
    with pytest.raises(ConfigError, match="at least one node"):
        run_simulation(ServerApp(), ClientApp(), nodes, "inprocess")


def test_a_backend_that_is_none():
    with pytest.raises(ConfigError, match="'processes'"):
        run_simulation(ServerApp(), ClientApp(), 2, "process")


@BACKENDS
def test_settings_are_the_same_on_both_sides(backend):
    import numpy as np

    given = {"lr": np.float32(0.5), "epochs": np.int64(3), "name": "x", "fast": True}
    expected = {"lr": 0.5, "epochs": 3, "name": "x", "fast": True}
    client, server = ClientApp(), ServerApp()

    @client.query()
    def tell(message, context):
        return Message(RecordDict({"c": ConfigRecord(context.run_config)}), reply_to=message)

    @server.main()
    def main(grid, context):
        call = Message(RecordDict(), 0, "query")
        return context.run_config, dict(next(iter(grid.send_and_receive([call]))).content["c"])

    options = {"backend_config": {"workers": 1}, "run_config": given}
    for seen in run_simulation(server, client, 1, backend, **options):
        assert seen == expected
        assert [type(value) for value in seen.values()] == [float, int, str, bool]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"x", 1j])
def test_settings_that_cannot_travel(value):
    with pytest.raises(ConfigError, match="run_config\\['a'\\]"):
        run_simulation(ServerApp(), ClientApp(), 2, "inprocess", run_config={"a": value})


@pytest.mark.slow
def test_a_process_that_ends_before_it_is_forked_is_told(apps):
    spec = AppSpec("sim_app:app", None, str(apps), "run", 7, 4, {}, 1)
    executor = ProcessExecutor(spec, Resources(workers=2).plans(4))
    try:
        executor.launch()
        (template,) = executor._templates
        template.wait_ready()
        template.process.kill()
        template.process.wait()
        with pytest.raises(NodeLost, match="no worker can be started"):
            executor.start()
    finally:
        executor.close()


def test_a_run_that_cannot_begin_leaves_no_file_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match="no backend") as caught:
        run_simulation(ServerApp(), ClientApp(), 2, "threads", run_dir=tmp_path)
    assert caught.value  # and with it all frames that it passed
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_observer_that_fails_at_once_fails_the_run(tmp_path):
    def observe(event):
        if event.name == "run_started":
            raise LookupError("no display")

    with pytest.raises(LookupError):
        run_simulation(
            ServerApp(), ClientApp(), 2, "inprocess", run_dir=tmp_path, observers=[observe]
        )
    events = [entry.event for entry in read_log(tmp_path / "log.jsonl")]
    assert events == ["run_started", "run_failed"]


def test_settings_are_of_exactly_the_types_that_travel():
    class Optimizer(enum.StrEnum):
        ADAM = "adam"

    with pytest.raises(ConfigError, match="is a Optimizer"):
        run_simulation(
            ServerApp(), ClientApp(), 2, "inprocess", run_config={"optimizer": Optimizer.ADAM}
        )
