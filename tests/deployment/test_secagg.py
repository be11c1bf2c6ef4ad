"""Secure aggregation between processes that are killed: same app, same bits as in a simulation."""

import fcntl
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from local_deployment import LocalDeployment, until

from umbel.records import decode
from umbel.serverapp import read_log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

APP = Path(__file__).parent / "apps" / "secure"
NODES = 4


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with LocalDeployment(tmp_path_factory.mktemp("secure"), insecure=True) as here:
        here.start_server()
        for number in range(NODES):
            here.start_node(number, "--trust-any", "--set", f"num-partitions={NODES}")
        here.connect().close()
        yield here


def submit(here, *options):
    run = ("run", APP, "--on", "local", "--json", "--seed", "7")
    return here.umbel(*run, *options)["run-id"]


def events(here, run_id):
    path = here.run_folder(run_id) / "log.jsonl"
    return [(entry.event, entry.data) for entry in read_log(path)] if path.exists() else []


def await_phase(here, run_id, phase, server_round=1):
    """Wait until messages of this phase are sent; the run must not end before."""

    def look():
        found = events(here, run_id)
        assert not any(name in ("run_finished", "run_failed") for name, _ in found), found
        return any(
            name == "phase_started" and (data["phase"], data["round"]) == (phase, server_round)
            for name, data in found
        )

    until(look)


def outcome(here, run_id):
    """Return how the run ended, its model, the causes of failures, and its last metrics."""

    def look():
        found = events(here, run_id)
        return found if found and found[-1][0] in ("run_finished", "run_failed") else None

    found = until(look)
    failures = [(d["round"], d["node_id"], d["kind"]) for name, d in found if name == "failure"]
    assert found[-1][0] == "run_finished", found[-1]
    model = decode((here.run_folder(run_id) / "model.safetensors").read_bytes())["arrays"]["w"]
    return model.view(), failures


@contextmanager
def held(path):
    """Keep the last client waiting in its training."""
    path.touch()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


@pytest.fixture(scope="module")
def undisturbed(nodes):
    model, failures = outcome(nodes, submit(nodes))
    assert failures == []
    return model


def expected(rounds):
    """What plain averaging gives; ``rounds`` lists who takes part in each."""
    calls, total = dict.fromkeys(range(NODES), 0), 0.0
    for members in rounds:
        steps = {node: 0.1 * (node + calls[node] + 1) for node in members}
        for node in members:
            calls[node] += 1
        total += np.average(list(steps.values()), weights=[1 + node for node in members])
    return total


def test_is_what_a_simulation_gives(nodes, undisturbed):
    told = nodes.umbel("run", APP, "--nodes", NODES, "--seed", "7", "--json")
    simulated = decode((nodes.folder / told["run_dir"] / "model.safetensors").read_bytes())
    assert bytes(simulated["arrays"]["w"].data) == undisturbed.tobytes()
    assert undisturbed[:3] == pytest.approx([expected([range(4)] * 2)] * 3, abs=1e-6)


@pytest.mark.parametrize("step", ["share", "mask"])
def test_a_failure_belongs_to_the_phase_that_it_has_in_a_simulation(nodes, step):
    options = ("-c", f"broken=2@{step}")
    run_id = submit(nodes, *options)
    outcome(nodes, run_id)
    told = nodes.umbel("run", APP, "--nodes", NODES, "--seed", "7", "--json", *options)
    simulated = read_log(nodes.folder / told["run_dir"] / "log.jsonl")
    phases = [
        [data["phase"] for name, data in found if name == "failure"]
        for found in (events(nodes, run_id), [(e.event, e.data) for e in simulated])
    ]
    phase = "train" if step == "mask" else f"secagg.{step}"
    assert phases == [[phase] * 2] * 2  # of two rounds, here and there


def test_an_update_out_of_range_is_one_clients_failure(nodes):
    model, failures = outcome(nodes, submit(nodes, "-c", "lost=1"))
    assert failures == [(1, 1, "UsageError"), (2, 1, "UsageError")]
    assert model[:3] == pytest.approx([expected([(0, 2, 3)] * 2)] * 3, abs=1e-6)


def test_a_node_that_is_killed_and_comes_back_goes_on_in_its_session(nodes, undisturbed, tmp_path):
    with held(tmp_path / "gate") as gate:
        run_id = submit(nodes, "-c", f"gate={gate}")
        await_phase(nodes, run_id, "train")
        nodes.nodes[3].kill()
        nodes.start_node(3)
    model, failures = outcome(nodes, run_id)
    assert failures == []
    assert model.tobytes() == undisturbed.tobytes()


@pytest.mark.parametrize("phase", ["secagg.share", "train", "secagg.unmask"])
def test_a_server_app_that_is_killed_goes_on_in_its_session(nodes, undisturbed, phase, tmp_path):
    with held(tmp_path / "gate") as gate:
        run_id = submit(nodes, *(() if phase == "secagg.unmask" else ("-c", f"gate={gate}")))
        await_phase(nodes, run_id, phase)
        child = until(lambda: nodes.server.child("umbel.deployment.server.child"))
        child.send_signal(signal.SIGKILL)
    model, failures = outcome(nodes, run_id)
    assert failures == []
    assert model.tobytes() == undisturbed.tobytes()


def test_a_node_that_is_killed_while_it_trains_has_dropped_out(nodes, tmp_path):
    with held(tmp_path / "gate") as gate:
        run_id = submit(nodes, "-c", f"gate={gate}", "-c", "timeout=5.0")
        await_phase(nodes, run_id, "train")
        nodes.nodes[3].kill()
        await_phase(nodes, run_id, "secagg.unmask")
        nodes.start_node(3)
    model, failures = outcome(nodes, run_id)
    assert failures == [(1, 3, "ReplyTimeout")]
    assert model[:3] == pytest.approx([expected([(0, 1, 2), range(4)])] * 3, abs=1e-6)


def test_too_few_that_are_left_end_the_run_and_it_says_why(nodes):
    options = ("-c", "threshold=4", "-c", "lost=2")
    told = nodes.umbel(
        *("run", APP, "--on", "local", "--stream", "--json", "--seed", "7", *options), status=1
    )
    assert told["status"] == "failed"
    (failed,) = [data for name, data in events(nodes, told["run-id"]) if name == "run_failed"]
    assert "3 of 4 clients gave a usable reply and 4 are needed" in failed["error"]
    assert "out of [-8, 8]" in failed["error"]
