"""The client in TypeScript: its own tests, the conformance kit, and a federation with Python."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.base import SYSTEM_CLOCK, VirtualClock
from umbel.deployment import Authority, Identity
from umbel.deployment.certificates import make_request, valid_until

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
EXAMPLE = ROOT / "examples" / "mixed-federation"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    """Return the folder of the client, built."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node and npm")
    if not (CLIENT / "node_modules" / "typescript").is_dir():
        install = ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"]
        out = subprocess.run(install, cwd=CLIENT, capture_output=True, text=True, timeout=100)
        if out.returncode:
            pytest.skip(f"npm cannot fetch the client's dependencies: {out.stderr[-300:]}")
    subprocess.run(["npm", "run", "build"], cwd=CLIENT, check=True, capture_output=True)
    return CLIENT


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def environment(tmp_path):
    own = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    return {**os.environ, **own}


@contextlib.contextmanager
def beside(*command, env=None):
    """Run a program while the block runs; yield it."""
    process = subprocess.Popen(
        [*map(str, command)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def umbel(*arguments):
    return (sys.executable, "-m", "umbel.cli", *arguments)


def answer(command, env, cwd):
    out = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert out.stdout, out.stderr
    return json.loads(out.stdout)


def test_its_own_tests_pass(client):
    out = subprocess.run(
        ["node", "--test", "dist/test/"], cwd=client, capture_output=True, text=True, timeout=60
    )
    assert out.returncode == 0, out.stdout[-3000:]


def test_it_passes_every_case_of_the_conformance_kit(client, address, environment, tmp_path):
    echo = client / "dist" / "examples" / "echo.js"
    with beside("node", echo, address, tmp_path / "node"):
        command = umbel("conformance", "--listen", address, "--json")
        said = answer(command, environment, tmp_path)
    assert [case for case in said["cases"] if not case["passed"]] == []
    assert len(said["cases"]) > 20


def test_it_trains_in_one_federation_with_a_python_node(client, address, environment, tmp_path):
    import sklearn

    digits = Path(sklearn.__path__[0]) / "datasets" / "data" / "digits.csv.gz"
    ours = ("--set", "partition-id=0", "--set", "num-partitions=2")
    server = umbel(
        "server", "--insecure", "--port", address.split(":")[1], "--data", tmp_path / "server"
    )
    python = umbel(
        *("node", address, "--insecure", "--data", tmp_path / "py", "--app", EXAMPLE, *ours)
    )
    typescript = ("node", client / "dist" / "examples" / "digits.js", address)
    options = ("--digits", digits, "--data", tmp_path / "ts", "--partition-id", "1")
    with (
        beside(*server, env=environment),
        beside(*python, env=environment),
        beside(*typescript, *options),
    ):
        wait_until_listening(address)
        connect = umbel("connect", "mixed", "--address", address, "--insecure")
        subprocess.run(connect, env=environment, cwd=tmp_path, check=True, capture_output=True)
        run = umbel("run", str(EXAMPLE), "--on", "mixed", "--stream", "--json")
        told = answer(run, environment, tmp_path)
        nodes = answer(umbel("nodes", "ls", "--json"), environment, tmp_path)
        pull = umbel("pull", "latest", "--out", "pulled", "--json")
        answer(pull, environment, tmp_path)
    assert told["success"] is True, told
    assert {"language": "typescript"} in [node["tags"] for node in nodes["nodes"]]
    lines = (tmp_path / "pulled" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    tested = [row["metrics"]["accuracy"] for row in metrics if row["phase"] == "server"]
    assert tested[0] < 0.3
    assert tested[-1] > 0.88
    log = (tmp_path / "pulled" / "log.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line) for line in log.splitlines()]
    assert sum(len(event.get("failures", [])) for event in events) == 0


def test_it_joins_with_a_token_and_connects_by_its_own_certificate(
    client, address, environment, tmp_path
):
    import sklearn

    digits = Path(sklearn.__path__[0]) / "datasets" / "data" / "digits.csv.gz"
    port = address.split(":")[1]
    data = ("--data", tmp_path / "server")
    init = umbel("server", "init", *data)
    subprocess.run(init, env=environment, check=True, capture_output=True)
    create = umbel(
        *("token", "create", *data, "--role", "node", "--json"),
        *("--address", f"localhost:{port}"),
    )
    token = answer(create, environment, tmp_path)["token"]
    node = ("node", client / "dist" / "examples" / "digits.js", "--join", token)
    with beside(*umbel("server", "--port", port, *data), env=environment):
        wait_until_listening(address)
        options = ("--digits", digits, "--data", tmp_path / "ts")
        for _ in range(2):  # the second time by what the folder holds: a token is good once
            with beside(*node, *options) as process:
                lines = iter(process.stdout.readline, "")
                assert f"connected: connected to localhost:{port} as 0\n" in lines
        ending = aged_certificate(tmp_path, 365)
        with beside(*node, *options) as process:
            assert any(line.startswith("certificate: renewed") for line in process.stdout)
        renewed = (tmp_path / "ts" / "identity" / "cert.pem").read_bytes()
        assert valid_until(renewed) > valid_until(ending) + 299 * 86_400
        with beside(*node, *options) as process:  # by the new one
            assert f"connected: connected to localhost:{port} as 0\n" in process.stdout
        aged_certificate(tmp_path, 1)  # too late: it joins again, and is the same node
        node = (*node[:-1], answer(create, environment, tmp_path)["token"])
        with beside(*node, *options) as process:
            assert f"connected: connected to localhost:{port} as 0\n" in process.stdout


def aged_certificate(folder, days):
    """Give the node a certificate that is 300 days old, for its key; return it."""
    past = VirtualClock(SYSTEM_CLOCK.now() - 300 * 86_400)
    authority = Authority.load(folder / "server" / "authority", clock=past)
    own = Identity.load(folder / "ts" / "identity")
    certificate = authority.sign_request(make_request(own.key_pem), own.principal, days)
    (folder / "ts" / "identity" / "cert.pem").write_bytes(certificate)
    return certificate


def wait_until_listening(address):
    host, port = address.split(":")
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, port)):
            return
