from __future__ import annotations

import pytest

from umbel.base import ConfigError
from umbel.clientapp import ClientApp
from umbel.serverapp import ServerApp
from umbel.simulation import resources, run_simulation
from umbel.simulation.resources import Resources


@pytest.fixture
def machine(monkeypatch):
    """``machine(cpus, gpus)``: pretend to be on such a machine."""

    def pretend(cpus: int, gpus: str | None = None) -> None:
        monkeypatch.setattr(resources, "available_cpus", lambda: cpus)
        if gpus is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)

    return pretend


def devices(config, nodes=100):
    return [
        plan.environment["CUDA_VISIBLE_DEVICES"] for plan in Resources.parse(config).plans(nodes)
    ]


def client(cpus=1.0, gpus=0.0, **others):
    return {"client_resources": {"num_cpus": cpus, "num_gpus": gpus}, **others}


@pytest.mark.parametrize(
    ("cpus", "config", "workers", "threads"),
    [
        (8, None, 8, 1),
        (8, {}, 8, 1),
        (8, client(2), 4, 2),
        (8, client(3), 2, 3),
        (8, client(16), 1, 16),
        (8, client(0.5), 16, 1),
        (8, client(0), 8, 1),
        (8, {"workers": 3}, 3, 1),
        (8, client(2, workers=5), 5, 2),
        (8, {"init_args": {"num_cpus": 4}}, 4, 1),
    ],
)
def test_cpus_decide_the_workers_and_their_threads(machine, cpus, config, workers, threads):
    machine(cpus, "")
    assert devices(config) == [""] * workers
    assert Resources.parse(config).threads == threads


def test_there_are_no_more_workers_than_nodes(machine):
    machine(8, "")
    assert len(devices(None, nodes=3)) == 3
    assert len(devices({"workers": 5}, nodes=1)) == 1


@pytest.mark.parametrize(
    ("gpus", "config", "seen"),
    [
        ("0,1", client(1, 1), ["0", "1"]),
        ("0,1", client(1, 0.5), ["0", "1", "0", "1"]),
        ("0,1", client(1, 0.3), ["0", "1"] * 3),
        ("0,1", client(8, 0.5), ["0"]),
        ("0,1,2,3,4", client(1, 2), ["0,1", "2,3"]),
        ("0,1", client(1, 2), ["0,1"]),
        ("5,7", client(1, 0.5), ["5", "7", "5", "7"]),
        ("GPU-a, GPU-b", client(1, 1), ["GPU-a", "GPU-b"]),
        ("5,7,9", client(1, 1, num_gpus=2), ["5", "7"]),
        ("", client(1, 0.5, num_gpus=2), ["0", "1", "0", "1"]),
        ("5,7", client(1, 1, workers=3), ["5", "7", "5"]),
        ("5,7", client(1, 0, workers=2), ["", ""]),
        ("5,7,9", client(1, 1, init_args={"num_cpus": 8, "num_gpus": 2}), ["5", "7"]),
    ],
)
def test_gpus_decide_the_workers_and_what_each_sees(machine, gpus, config, seen):
    machine(8, gpus)
    assert devices(config) == seen


def test_a_worker_that_drives_a_gpu_starts_afresh(machine):
    machine(8, "0")
    assert [plan.fork for plan in Resources.parse(client(1, 0.5)).plans(9)] == [False, False]
    assert all(plan.fork for plan in Resources.parse(client()).plans(9))


def test_a_machine_without_the_gpus(machine):
    machine(8, "")
    with pytest.raises(ConfigError, match=r"needs 0.5 GPUs and this machine shows 0"):
        devices(client(1, 0.5))
    machine(8, "0")
    with pytest.raises(ConfigError, match="needs 2 GPUs and this machine shows 1"):
        devices(client(1, 2))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"client_resource": {}}, "did you mean 'client_resources'"),
        ({"client_resources": {"num_cpu": 1}}, "did you mean 'num_cpus'"),
        ({"client_resources": {"threads": 1}}, "it knows"),
        ({"zzz": 1}, "it knows"),
        ({3: 1}, "does not know 3"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(config, text):
    with pytest.raises(ConfigError, match=text):
        Resources.parse(config)


@pytest.mark.parametrize(
    "config",
    [
        client(-1),
        client(1, -1),
        client(1, 1.5),
        client("two"),
        client(float("nan")),
        client(None, "x"),
        {"workers": 0},
        {"workers": 1.5},
        {"workers": True},
        {"workers": "2"},
        {"num_gpus": 0},
        {"client_timeout_s": 0},
        {"client_timeout_s": -1.0},
        {"client_timeout_s": "1"},
        {"client_resources": 3},
        {"client_resources": [("num_cpus", 1)]},
        {"init_args": 3},
    ],
)
def test_a_value_out_of_its_range_is_a_config_error(config):
    with pytest.raises(ConfigError):
        Resources.parse(config)


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [1, 2])
def test_workers_use_the_threads_they_were_given(cpus, run_main, requests):
    """Both of BLAS and of torch, which each client imports by itself."""

    def main(grid):
        replies = grid.send_and_receive(requests(range(4), "query.surroundings"))
        return [dict(reply.content["surroundings"]) for reply in replies]

    for seen in run_main(main, **client(cpus)):
        assert seen["torch"] == cpus
        assert set(seen["blas"]) <= {cpus}
        assert seen["cuda"] == ""


@pytest.mark.slow
def test_clients_share_gpus(run_main, requests):
    """Two GPUs that nobody has, shared by two clients each."""

    def main(grid):
        replies = grid.send_and_receive(requests(range(40), "query.surroundings"))
        return [dict(reply.content["surroundings"]) for reply in replies]

    seen = run_main(main, 40, **client(0.5, 0.5, num_gpus=2, workers=4))
    by_process = {one["pid"]: one["cuda"] for one in seen}
    assert len(by_process) > 1
    assert set(by_process.values()) <= {"0", "1"}
    assert all(by_process[one["pid"]] == one["cuda"] for one in seen)


@pytest.mark.parametrize("config", [{"workers": 2}, {"client_timeout_s": 1.0}])
def test_the_inprocess_backend_refuses_what_it_cannot_do(config):
    with pytest.raises(ConfigError, match="one client at a time"):
        run_simulation(ServerApp(), ClientApp(), 2, "inprocess", config)
