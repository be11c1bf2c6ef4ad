"""Servers and clients that scripts start: ``umbel.start_server`` and ``umbel.start_client``."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import umbel
from umbel.base import ConfigError, UmbelError, Unreachable, UsageError
from umbel.deployment import Authority
from umbel.serverapp import read_log
from umbel.strategies import FedAvg, with_central_dp

SCRIPT = Path(__file__).parent / "scripts" / "client.py"
MODEL = umbel.ArrayRecord([np.zeros(5)])


def the_client(*arguments):
    spec = importlib.util.spec_from_file_location("client_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Mean(*arguments)


def environment(request):
    return {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}


def script(request, port, *arguments):
    command = [sys.executable, str(SCRIPT), str(port), *arguments]
    return subprocess.Popen(command, env=environment(request), stdout=subprocess.PIPE, text=True)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def clients(request, port):
    """Return a context with client scripts at work; at its end all must have ended well."""

    @contextmanager
    def start(*arguments, count=2):
        processes = [script(request, port, *arguments) for _ in range(count)]
        try:
            yield
            outputs = [process.communicate(timeout=30)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert outputs == ["over\n"] * count
        assert [process.returncode for process in processes] == [0] * count

    return start


@contextmanager
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def simulated(config):
    server = umbel.ServerApp()

    @server.main()
    def main(grid, context):
        return FedAvg().start(grid, MODEL, num_rounds=3)

    client = umbel.ClientApp(client_fn=lambda context: the_client())
    return umbel.run_simulation(server, client, 2, "inprocess", seed=7, run_config=config)


def arrays(result):
    return [array.tobytes() for array in result.arrays.to_numpy_ndarrays()]


@pytest.mark.slow
@pytest.mark.parametrize(("with_tls", "shown"), [(False, ()), (True, ()), (False, ("cbor",))])
def test_two_scripts_come_to_the_model_of_the_simulation(clients, port, tmp_path, with_tls, shown):
    certificates = None
    if with_tls:
        authority = Authority.create(tmp_path / "authority", "test")
        own = authority.server_certificate(["localhost"], 1)
        (tmp_path / "ca.pem").write_bytes(authority.ca_pem)
        certificates = (authority.ca_pem, own.cert_pem, own.key_pem)
        shown = (str(tmp_path / "ca.pem"),)
    config = {"scale": 0.5}
    with clients(*shown):
        result = umbel.start_server(
            f"127.0.0.1:{port}",
            strategy=FedAvg(),
            initial_arrays=MODEL,
            num_rounds=3,
            certificates=certificates,
            seed=7,
            run_config=config,
            run_dir=tmp_path / "run",
        )
    expected = simulated(config)
    assert arrays(result) == arrays(expected)
    assert result.evaluate_metrics_clientapp == expected.evaluate_metrics_clientapp
    assert [entry.event for entry in read_log(tmp_path / "run" / "log.jsonl")][-1] == "run_finished"
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_deployment_draws_its_noise_from_a_secret(clients, port, tmp_path):
    strategy = with_central_dp(
        FedAvg(), noise_multiplier=1.0, clipping=1.0, cohort=2, delta=1e-5, epsilon_budget=9.0
    )
    with clients():
        result = umbel.start_server(
            f"127.0.0.1:{port}",
            strategy=strategy,
            initial_arrays=MODEL,
            num_rounds=9,
            seed=7,
            run_dir=tmp_path / "run",
        )
    assert result.privacy.noise_randomness == "cryptographic"
    assert result.privacy.epsilon <= 9.0
    assert (result.stopped_early, not result.failures) == (True, True)
    events = [entry.event for entry in read_log(tmp_path / "run" / "log.jsonl")]
    assert events.count("privacy_spent") == result.rounds > 0
    assert not (tmp_path / "run" / "secret.key").exists()


@pytest.mark.slow
def test_a_client_that_raises_is_a_failure_of_its_own(clients, port):
    with clients("raise"):
        result = umbel.start_server(
            f"127.0.0.1:{port}",
            strategy=FedAvg(min_completion=0.5),
            initial_arrays=MODEL,
            num_rounds=2,
        )
    assert [(f.server_round, f.phase, f.node_id, f.kind) for f in result.failures] == [
        (1, "train", 1, "RuntimeError"),
        (2, "train", 1, "RuntimeError"),
    ]
    assert result.failures[0].message == "the disk is full"


@pytest.mark.slow
def test_clients_end_with_the_server_also_those_that_were_never_asked(clients, port):
    server = umbel.ServerApp()

    @server.main()
    def main(grid, context):
        return list(grid.wait_for_nodes(2, 30))

    with clients():
        assert umbel.start_server(f"127.0.0.1:{port}", server_app=server) == [0, 1]


@pytest.mark.slow
def test_clients_end_when_the_server_app_fails_and_its_error_is_the_callers(
    clients, port, tmp_path
):
    server = umbel.ServerApp()

    @server.main()
    def main(grid, context):
        grid.wait_for_nodes(1, 30)
        raise LookupError("no such data")

    with clients(count=1), pytest.raises(LookupError, match="no such data"):
        umbel.start_server(f"127.0.0.1:{port}", server_app=server, run_dir=tmp_path / "run")
    last = list(read_log(tmp_path / "run" / "log.jsonl"))[-1]
    assert last.event == "run_failed"


@pytest.mark.slow
def test_a_client_that_dies_is_a_failure_after_its_grace(request, port):
    processes = [script(request, port, "die") for _ in range(2)]
    try:
        result = umbel.start_server(
            f"127.0.0.1:{port}",
            strategy=FedAvg(min_completion=0.5, fraction_evaluate=0.0),
            initial_arrays=MODEL,
            num_rounds=1,
            node_grace_s=0.1,
        )
        codes = sorted(process.wait(timeout=30) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert codes == [0, 9]
    assert [(failure.phase, failure.node_id) for failure in result.failures] == [("train", 1)]


@pytest.mark.slow
def test_ctrl_c_ends_a_client_that_waits(request, tmp_path, port):
    code = (
        "import sys, umbel; umbel.start_client(sys.argv[1], client=umbel.Client(), "
        "on_event=lambda event: print(event.kind, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"127.0.0.1:{port}"],
        env={**environment(request), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "connecting\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert out.endswith("left\n")
    assert error.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT
    assert not list(tmp_path.iterdir())


def test_a_client_gives_up_a_server_that_is_not_there(port):
    with pytest.raises(Unreachable, match=r"there was no server for 0\.05 s"):
        umbel.start_client(f"127.0.0.1:{port}", client=the_client(), max_wait_s=0.05)


def test_a_port_that_is_taken_is_an_error():
    with taken_port() as port, pytest.raises(ConfigError, match="cannot be listened on"):
        umbel.start_server(f"127.0.0.1:{port}", strategy=FedAvg(), initial_arrays=MODEL)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "either a server_app or a strategy"),
        ({"server_app": umbel.ServerApp(), "strategy": FedAvg()}, "either a server_app or"),
        ({"server_app": FedAvg()}, "server_app is a FedAvg"),
        ({"server_app": umbel.ServerApp(), "num_rounds": 3}, "num_rounds go with a strategy"),
        ({"strategy": FedAvg()}, "begins with a model"),
        ({"strategy": FedAvg(), "initial_arrays": MODEL, "rounds": 3}, "argument 'rounds'"),
    ],
)
def test_what_a_server_runs_is_said_once(arguments, text):
    with pytest.raises(UsageError, match=text):
        umbel.start_server(**arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "0 of client, client_fn and client_app"),
        ({"client_fn": the_client, "client_app": umbel.ClientApp()}, "2 of client, client_fn"),
        ({"client": the_client}, "client is a function"),
        (
            {"client_fn": the_client, "insecure": True, "root_certificates": b"pem"},
            "of no use without TLS",
        ),
        ({"client_fn": the_client, "policy": "policy.toml"}, "would forget what was spent"),
        (
            {"client_fn": the_client, "policy": "no.toml", "data_dir": "."},
            "the policy cannot be read",
        ),
    ],
)
def test_what_a_client_runs_is_said_once(arguments, text):
    with pytest.raises(UmbelError, match=text):
        umbel.start_client(**arguments)


def test_certificates_are_three_files(port):
    with pytest.raises(ConfigError, match="three PEM files"):
        umbel.start_server(
            f"127.0.0.1:{port}",
            strategy=FedAvg(),
            initial_arrays=MODEL,
            certificates=(b"ca", b"certificate"),
        )
