"""Ray: the same bits as elsewhere, what a death costs, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from umbel.base import AppLoadError, ConfigError, MissingDependency, content_hash
from umbel.records import ArrayRecord, Context, Message, RecordDict, encode
from umbel.serverapp import Grid, Result, ServerApp
from umbel.simulation import run_simulation
from umbel.simulation.raycluster import plan_actors
from umbel.simulation.resources import Resources
from umbel.strategies import FedAvg

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

CLIENT = """
import os, random, signal, threading
import numpy as np
from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

app = ClientApp()


def misbehave(fault):
    if fault == "raises":
        raise ValueError("not today")
    if fault == "exits":
        os._exit(3)
    if fault == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hangs":
        threading.Event().wait()


@app.train()
def train(message, context):
    if context.node_id == context.run_config.get("faulty"):
        misbehave(context.run_config["fault"])
    model = message.content["arrays"].to_numpy_ndarrays()
    noise = [np.random.normal(size=x.shape).astype(x.dtype) + random.random() for x in model]
    # The state is one of the arrays, so that a lost or repeated round would show in the model.
    last = context.state["last"].to_numpy_ndarrays() if "last" in context.state else noise
    context.state["last"] = ArrayRecord(noise)
    update = ArrayRecord([x + new + old / 2 for x, new, old in zip(model, noise, last)])
    metrics = MetricRecord({"num-examples": context.node_id + 1})
    return Message(RecordDict({"arrays": update, "metrics": metrics}), reply_to=message)


@app.query("place")
def place(message, context):
    seen = {
        "pid": os.getpid(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "threads": os.environ["OMP_NUM_THREADS"],
    }
    return Message(RecordDict({"seen": ConfigRecord(seen)}), reply_to=message)
"""


class Collecting(FedAvg):
    """Overriding this makes the server collect replies where it would fold sums."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        return super().aggregate_train(server_round, replies)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def app_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "client_of_ray.py").write_text(CLIENT)
    yield tmp_path
    sys.modules.pop("client_of_ray", None)


def simulate(
    app_dir: Path,
    backend: str,
    workers: int = 2,
    *,
    nodes: int = 11,
    size: int = 10,
    rounds: int = 3,
    strategy: type[FedAvg] = FedAvg,
    timeout_s: float | None = None,
    config: dict[str, Any] | None = None,
    **run_config: Any,
) -> Result:
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> Result:
        model = ArrayRecord([np.zeros(size, np.float32)])
        return strategy(fraction_evaluate=0.0).start(grid, model, rounds)

    result: Result = run_simulation(
        server,
        "client_of_ray:app",
        nodes,
        backend,
        {"workers": workers, "client_timeout_s": timeout_s, **(config or {})}
        if backend != "inprocess"
        else None,
        seed=7,
        run_config=run_config,
        app_dir=app_dir,
    )
    return result


def outcome(result: Result) -> tuple[str, list[tuple[int, int]]]:
    """Return the hash of the model, and who failed in which round."""
    body = encode(RecordDict({"arrays": result.arrays}))
    failed = [(failure.server_round, failure.node_id) for failure in result.failures]
    return content_hash(body), sorted(failed)


SCENARIOS = {
    "a small model": {},
    "a model in the object store": {"size": 40_000},
    "replies collected": {"size": 40_000, "strategy": Collecting},
    "a client that raises": {"faulty": 4, "fault": "raises"},
    "many clients in a batch": {"nodes": 300, "rounds": 2},
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.usefixtures("cluster")
def test_the_same_bits_in_process_in_processes_and_in_actors(
    app_dir: Path, scenario: dict[str, Any]
) -> None:
    expected = outcome(simulate(app_dir, "inprocess", 1, **scenario))
    assert outcome(simulate(app_dir, "processes", **scenario)) == expected
    assert outcome(simulate(app_dir, "ray", **scenario)) == expected


@pytest.mark.parametrize("size", [10, 40_000])
@pytest.mark.usefixtures("cluster")
def test_the_same_bits_where_sums_are_merged_in_the_cluster(app_dir: Path, size: int) -> None:
    expected = outcome(simulate(app_dir, "inprocess", 1, size=size))
    assert outcome(simulate(app_dir, "ray", 5, size=size)) == expected


@pytest.mark.parametrize("fault", ["exits", "is killed"])
@pytest.mark.usefixtures("cluster")
def test_a_death_costs_its_own_client_alone(app_dir: Path, fault: str) -> None:
    scenario: dict[str, Any] = {"nodes": 60, "faulty": 40, "fault": fault, "rounds": 2}
    expected = outcome(simulate(app_dir, "processes", **scenario))
    result = simulate(app_dir, "ray", **scenario)
    assert outcome(result) == expected
    assert [(f.server_round, f.node_id) for f in result.failures] == [(1, 40), (2, 40)]
    assert {failure.kind for failure in result.failures} == {"ActorDied"}
    assert all("Ray actor died" in failure.message for failure in result.failures)


@pytest.mark.usefixtures("cluster")
def test_a_client_over_its_time_is_ended(app_dir: Path) -> None:
    result = simulate(app_dir, "ray", rounds=1, timeout_s=1.0, faulty=2, fault="hangs")
    assert [(f.node_id, f.kind) for f in result.failures] == [(2, "ClientTimeout")]


def places(app_dir: Path, **client_resources: float) -> list[dict[str, Any]]:
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> list[dict[str, Any]]:
        calls = [Message(RecordDict(), node, "query.place") for node in grid.get_node_ids()]
        replies = grid.send_and_receive(calls)
        return [dict(reply.content.config_records["seen"]) for reply in replies]

    config = {"client_resources": client_resources}
    seen: list[dict[str, Any]] = run_simulation(
        server, "client_of_ray:app", 24, "ray", config, app_dir=app_dir
    )
    return seen


@pytest.mark.usefixtures("cluster")
def test_actors_have_the_resources_of_a_client(app_dir: Path) -> None:
    seen = places(app_dir, num_cpus=2)
    assert len({place["pid"] for place in seen}) == 1
    assert {place["threads"] for place in seen} == {"2"}
    seen = places(app_dir, num_cpus=0.5, num_gpus=0.5)
    assert len({place["pid"] for place in seen}) == 2
    assert {place["gpus"] for place in seen} == {"0"}
    with pytest.raises(ConfigError, match="need 2 GPUs each, and the cluster has 1"):
        places(app_dir, num_gpus=2)


@pytest.mark.usefixtures("cluster")
def test_an_app_that_cannot_be_loaded_says_why(app_dir: Path) -> None:
    (app_dir / "client_of_ray.py").write_text("import missing_library")
    with pytest.raises(AppLoadError, match="imports 'missing_library'") as caught:
        simulate(app_dir, "ray")
    assert "import missing_library" in "".join(caught.value.__notes__)


@pytest.mark.usefixtures("cluster")
def test_an_app_that_ends_its_process_while_it_is_loaded(app_dir: Path) -> None:
    (app_dir / "client_of_ray.py").write_text("import os; os._exit(1)")
    with pytest.raises(AppLoadError, match="imports the client app died"):
        simulate(app_dir, "ray")


@pytest.mark.usefixtures("cluster")
def test_a_ray_of_the_script_is_left_as_it_was(app_dir: Path) -> None:
    simulate(app_dir, "ray", rounds=1)
    assert ray.is_initialized()


def test_without_ray_it_is_said_how_to_install_it(
    app_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"umbel\[ray\]"):
        simulate(app_dir, "ray")


@pytest.mark.parametrize(
    ("machines", "config", "actors", "cpus"),
    [
        ([{"CPU": 8.0}], {}, 8, 1.0),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"client_resources": {"num_cpus": 2}}, 2, 2.0),
        ([{"CPU": 2.0}], {"client_resources": {"num_cpus": 4}}, 1, 2.0),
        ([{"CPU": 2.0}], {"workers": 3}, 3, 0.5),
        ([{"CPU": 2.0}], {"workers": 90}, 20, 0.0625),
        ([{}], {"workers": 2}, 2, 0.0),
        ([{"CPU": 4.0}], {"client_resources": {"num_cpus": 0}}, 4, 0.0),
        ([{"CPU": 8.0, "GPU": 2.0}], {"client_resources": {"num_gpus": 0.4}}, 4, 1.0),
        ([{"CPU": 8.0, "GPU": 3.0}], {"client_resources": {"num_gpus": 2}}, 1, 1.0),
    ],
)
def test_how_many_actors_the_cluster_holds(
    machines: list[dict[str, float]], config: dict[str, Any], actors: int, cpus: float
) -> None:
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}})
    assert plan_actors(nodes, Resources.parse(config), num_nodes=20) == (actors, cpus)


SCRIPT = """
import threading
from umbel.clientapp import ClientApp
from umbel.records import Message, RecordDict
from umbel.serverapp import ServerApp
from umbel.simulation import run_simulation

client, server = ClientApp(), ServerApp()

@client.query("echo")
def echo(message, context):
    return Message(RecordDict(), reply_to=message)

@client.query("hang")
def hang(message, context):
    threading.Event().wait()

@server.main()
def main(grid, context):
    ask = lambda kind: [Message(RecordDict(), node, f"query.{kind}") for node in range(2)]
    print(len(grid.send_and_receive(ask("echo"))), flush=True)
    list(grid.send_and_receive(ask("hang")))

if __name__ == "__main__":
    run_simulation(server, client, 2, "ray", {"workers": 2})
"""


def test_ctrl_c_ends_a_script_and_all_that_it_started(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # As in a terminal, the signal goes to the whole group of processes.
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        started = psutil.Process(process.pid).children(recursive=True)
        assert started
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive


TWO_MACHINES = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from test_ray import outcome, simulate

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
join = {"init_args": {"address": cluster.address}}
app_dir = Path(sys.argv[1])
assert outcome(simulate(app_dir, "ray", size=40_000, config=join)) == outcome(
    simulate(app_dir, "inprocess", size=40_000)
)
for fault, kind in [("exits", "ActorDied"), ("hangs", "ClientTimeout")]:
    result = simulate(
        app_dir, "ray", config=join, rounds=1, timeout_s=1.0, faulty=2, fault=fault
    )
    # A batch on the other machine may have held more clients than this one.
    assert 2 in {failure.node_id for failure in result.failures}, result.failures
    assert {failure.kind for failure in result.failures} == {kind}, result.failures
cluster.shutdown()
"""


def test_machines_that_share_nothing_but_the_cluster(tmp_path: Path) -> None:
    # Ray's own stand-in for machines: a raylet each, with an object store of its own.
    (tmp_path / "client_of_ray.py").write_text(CLIENT)
    script = tmp_path / "script.py"
    script.write_text(TWO_MACHINES)
    here = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1] / 'src'}"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_cluster_that_died_is_not_waited_for(tmp_path: Path) -> None:
    """Ray finds the address of the last cluster in a file, whether that still runs or not."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    note = Path("/tmp/ray/ray_current_cluster")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("127.0.0.1:1")
    try:
        with subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"2\n"
            process.send_signal(signal.SIGINT)
    finally:
        note.unlink(missing_ok=True)
