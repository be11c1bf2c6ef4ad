"""However a run ends, nothing is left: no process, no shared memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def running(apps, tmp_path):
    """``running(do, processes)``: a simulation of such clients, and all processes it started."""
    started = []

    def start(do: str, processes: int = 3):
        program = [sys.executable, str(apps / "as_slow_script.py")]
        main = subprocess.Popen(
            [*program, do, str(processes), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(main)
        children = [psutil.Process(int(pid)) for pid in main.stdout.readline().split()]
        assert len(children) >= processes
        return main, children

    yield start
    for main in started:
        main.kill()
        main.communicate()


def shared_memory():
    return sorted(os.listdir("/dev/shm"))


def test_ctrl_c_ends_all_in_under_two_seconds(running, tmp_path):
    before = shared_memory()
    main, children = running("hang")
    begin = time.monotonic()
    main.send_signal(signal.SIGINT)
    _, text = main.communicate(timeout=10)
    gone, alive = psutil.wait_procs(children, timeout=2)
    assert time.monotonic() - begin < 2
    assert alive == []
    assert len(gone) == len(children)
    assert main.returncode == -signal.SIGINT
    assert text.rstrip().endswith("KeyboardInterrupt")
    assert shared_memory() == before
    last = json.loads(Path(tmp_path, "log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["data"]["status"]) == ("run_failed", "interrupted")


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_main_process_is_killed_all_others_go(signal_number, running):
    before = shared_memory()
    main, children = running("hang")
    main.send_signal(signal_number)
    main.communicate(timeout=10)
    _, alive = psutil.wait_procs(children, timeout=3)
    assert alive == []
    assert shared_memory() == before


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_what_clients_started_goes_too(signal_number, running):
    main, children = running("hang_with_a_child", processes=5)
    main.send_signal(signal_number)
    main.communicate(timeout=10)
    _, alive = psutil.wait_procs(children, timeout=3)
    assert alive == []


def test_ctrl_c_while_the_app_is_loaded(apps, tmp_path):
    """The engine waits for the template then."""
    Path(tmp_path, "slow_app.py").write_text(
        "import pathlib, threading\n"
        "pathlib.Path(__file__).with_name('loading').touch()\n"
        "threading.Event().wait()\n"
    )
    program = (
        "import umbel\n"
        "server = umbel.ServerApp()\n"
        "server.main()(lambda grid, context: None)\n"
        f"umbel.run_simulation(server, 'slow_app:app', 2, app_dir={str(tmp_path)!r})\n"
    )
    main = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while not Path(tmp_path, "loading").exists() and time.monotonic() < deadline:
        os.sched_yield()
    children = psutil.Process(main.pid).children(recursive=True)
    assert children
    begin = time.monotonic()
    main.send_signal(signal.SIGINT)
    main.communicate(timeout=10)
    _, alive = psutil.wait_procs(children, timeout=2)
    assert alive == []
    assert time.monotonic() - begin < 2


def test_a_run_that_ends_well_leaves_nothing(run_main, requests):
    before = shared_memory(), len(os.listdir("/proc/self/fd"))
    seen = []

    def main(grid):
        replies = grid.send_and_receive(requests(range(20), "query.large"))
        seen.extend(psutil.Process().children(recursive=True))
        return len(replies)

    assert run_main(main, 20) == 20
    _, alive = psutil.wait_procs(seen, timeout=2)
    assert len(seen) == 3
    assert alive == []
    assert (shared_memory(), len(os.listdir("/proc/self/fd"))) == before


def test_an_exception_of_main_leaves_nothing(run_main, requests):
    seen = []

    def main(grid):
        grid.push_messages(requests(range(4), "train", do="hang"))
        seen.extend(psutil.Process().children(recursive=True))
        raise LookupError("the server's own")

    before = len(os.listdir("/proc/self/fd"))
    begin = time.monotonic()
    with pytest.raises(LookupError, match="own"):
        run_main(main, 20)
    assert time.monotonic() - begin < 3
    _, alive = psutil.wait_procs(seen, timeout=2)
    assert alive == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, LookupError])
def test_a_call_that_was_cut_off_is_not_continued(error, run_main, requests):
    """A main that catches Ctrl-C can go on, and need not wait for clients that hang."""
    from umbel.updates import Collect

    def cut_off(event):
        if event.name == "progress" and not seen:
            seen.append(event)
            raise error

    def main(grid):
        ids = grid.push_messages(requests(range(4), "train", do="hang", nodes=[1]))
        with pytest.raises(error):
            grid.fold(requests(range(4)), Collect())
        with pytest.raises(error):
            grid.pull_messages(ids)
        return grid.fold(requests(range(4)), Collect()).count

    seen = []
    assert run_main(main, run={"observers": [cut_off]}) == 4
