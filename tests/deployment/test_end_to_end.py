"""Server, nodes and commands as their users start them: processes, sockets, TLS, tokens."""

import fcntl
import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from local_deployment import LocalDeployment, until

from umbel.records import decode
from umbel.serverapp import read_log

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart-numpy"
SCENARIOS = Path(__file__).parent / "apps" / "scenarios"


@pytest.fixture(scope="module")
def user(deployment):
    with deployment.connect("second", user="other") as client:
        yield client


def run(deployment, app, *options, status=0):
    return deployment.umbel(
        *("run", app, "--on", "local", "--stream", "--seed", "7", "--json", *options), status=status
    )


def scenario(deployment, name, *options, status=0):
    return run(deployment, SCENARIOS, "-c", f"scenario={name}", *options, status=status)


def model_of(deployment, run_id):
    data = (deployment.run_folder(run_id) / "model.safetensors").read_bytes()
    return decode(data)


class TestAsTheDocsSay:
    """The commands of docs/deploying.md; only ports and folders are others."""

    def test_all_of_it(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("docs")
        with LocalDeployment(folder) as here:
            here.umbel("server", "init", "--data", here.data)
            server = here.start_server()
            assert "mutual TLS" in server.text()
            for number in range(2):
                create = ("token", "create", "--data", here.data, "--role", "node", "--json")
                token = here.umbel(*create)["token"]
                here.start_node(number, "--trust-any", "--set", "num-partitions=2", token=token)
            (folder / "token").write_text(
                here.umbel(
                    *("token", "create", "--data", here.data, "--role", "admin", "--name", "me")
                )
            )
            here.umbel("connect", "local", "--join", f"@{folder / 'token'}")
            simulated = here.umbel("run", EXAMPLE, "--nodes", "2", "--seed", "7", "--json")
            deployed = run(here, EXAMPLE)
            assert deployed["model_sha256"] == simulated["model_sha256"]
            assert (deployed["rounds"], deployed["failures"]) == (10, 0)
            assert deployed["metrics"] == simulated["metrics"]

            pulled = here.umbel("pull", "latest", "--on", "local", "--json")
            names = {Path(file).name for file in pulled["files"]}
            assert names == {"log.jsonl", "metrics.jsonl", "model.safetensors", "output.log"}
            simulated_model = Path(simulated["run_dir"]) / "model.safetensors"
            pulled_model = folder / "runs" / pulled["run-id"] / "model.safetensors"
            assert pulled_model.read_bytes() == (folder / simulated_model).read_bytes()
            assert here.umbel("verify", pulled["run-id"], "--json")["success"]
            log = folder / "runs" / pulled["run-id"] / "log.jsonl"
            log.write_bytes(log.read_bytes().replace(b'"seed": 7', b'"seed": 8', 1))
            here.umbel("verify", pulled["run-id"], "--json", status=1)

            (listed,) = here.umbel("ls", "--on", "local", "--json")["runs"]
            assert (listed["status"], listed["owner"]) == ("succeeded", "me")
            nodes = here.umbel("nodes", "ls", "--json")["nodes"]
            assert [(n["node-id"], n["status"], n["tasks"]) for n in nodes] == [
                (0, "connected", 0),
                (1, "connected", 0),
            ]
            entries = here.umbel("log", "latest", "--json")
            assert entries[0]["event"] == "run_started"
            assert entries[-1]["event"] == "run_finished"


class TestApps:
    def test_a_strategy_with_an_aggregation_of_its_own(self, deployment):
        told = scenario(deployment, "overridden")
        assert told["metrics"]["train"] == {"seen": 2}
        model = model_of(deployment, told["run-id"])
        assert model["arrays"]["w"].numpy().tolist() == [4.0] * 4  # 2 rounds, each of them + 2

    def test_a_loop_of_ones_own_with_push_and_pull_and_queries(self, deployment):
        told = scenario(deployment, "loop")
        assert told["status"] == "succeeded"
        output = (deployment.run_folder(told["run-id"]) / "output.log").read_text()
        assert "the loop ends with [9.0, 9.0, 9.0, 9.0]" in output  # 0 -> 1 + 2 -> 4 + 5

    def test_what_fails_at_the_nodes_stands_in_the_log(self, deployment):
        told = scenario(deployment, "clients fail", status=1)
        assert told["status"] == "failed"
        entries = deployment.umbel("log", told["run-id"], "--on", "local", "--json")
        failures = [entry["data"] for entry in entries if entry["event"] == "failure"]
        assert {(f["node_id"], f["kind"]) for f in failures} == {
            (0, "ValueError"),
            (1, "ValueError"),
        }
        assert "no such column: age" in failures[0]["message"]
        assert "no such column: age" in deployment.umbel("log", told["run-id"], "--on", "local")

    def test_what_fails_at_the_server_stands_in_the_log(self, deployment):
        told = scenario(deployment, "server fails", status=1)
        entries = deployment.umbel("log", told["run-id"], "--on", "local", "--json")
        assert entries[-1]["event"] == "run_failed"
        assert "no such file: missing.csv" in json.dumps(entries[-1]["data"])
        (listed,) = [
            each
            for each in deployment.umbel("ls", "--on", "local", "--json")["runs"]
            if each["run-id"] == told["run-id"]
        ]
        assert "no such file: missing.csv" in listed["detail"]

    def test_a_folder_that_holds_no_app(self, deployment, tmp_path):
        told = run(deployment, tmp_path / "nowhere", status=2)
        assert not told["success"]
        assert "nowhere" in json.dumps(told)


@contextmanager
def held_in_round_2(deployment, user, gate, *options):
    """Begin a run, and let it get no further than its second round while the block runs."""
    gate.touch()
    with gate.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        begun = deployment.umbel(
            *("run", SCENARIOS, "--on", "local", "--json", "-c", f"gate={gate}", *options)
        )
        for entry in user.watch(begun["run-id"], follow=True):
            if entry["event"] == "phase_started" and entry["data"]["round"] == 2:
                break
        yield begun["run-id"]


class TestStopping:
    def test_a_stopped_run_goes_on_where_it_was(self, deployment, user, tmp_path):
        options = ("--seed", "7", "-c", "num-rounds=3")
        with held_in_round_2(deployment, user, tmp_path / "gate", *options) as run_id:
            stopped = deployment.umbel("stop", run_id, "--on", "local", "--json")
            assert (stopped["status"], stopped["detail"]) == ("stopped", "stopped by me")
            deployment.umbel("stop", run_id, "--on", "local", "--json", status=2)
            resumed = deployment.umbel("resume", run_id, "--on", "local", "--json")
            assert resumed["status"] == "submitted"
        told = deployment.umbel("log", run_id, "--on", "local", "--follow")
        assert "succeeded" in told
        log = list(read_log(deployment.run_folder(run_id) / "log.jsonl"))
        rounds = [entry.data["round"] for entry in log if entry.event == "round_finished"]
        assert rounds == [1, 2, 3]
        assert model_of(deployment, run_id)["arrays"]["w"].numpy().tolist() == [6.0] * 4
        deployment.umbel("resume", run_id, "--on", "local", "--json", status=2)


class TestRemoving:
    def test_a_run_that_is_over_leaves_nothing(self, deployment, user, tmp_path):
        with held_in_round_2(deployment, user, tmp_path / "gate") as run_id:
            refused = deployment.umbel("rm", run_id, "--on", "local", "--json", status=2)
            assert "stop it first" in refused["error-message"]
            deployment.umbel("stop", run_id, "--on", "local", "--json")
            at_nodes = [deployment.folder / f"node-{n}" / "runs" / run_id for n in range(2)]
            until(lambda: all((run / "state").exists() for run in at_nodes))
            removed = deployment.umbel("rm", run_id, "--on", "local", "--json")
            assert removed["status"] == "removed"
        until(lambda: not any(run.exists() for run in (deployment.run_folder(run_id), *at_nodes)))
        runs = deployment.umbel("ls", "--on", "local", "--json")["runs"]
        assert run_id not in {run["run-id"] for run in runs}
        told = deployment.umbel("log", run_id, "--on", "local", "--json", status=2)
        assert "names no runs there" in json.dumps(told)


class TestWhatANodeRuns:
    @pytest.fixture
    def alone(self, tmp_path):
        """A deployment whose nodes are chosen by the test."""
        with LocalDeployment(tmp_path / "alone") as here:
            here.start_server()
            here.connect().close()
            yield here

    def failures(self, here, app, *options):
        told = run(here, app, *options, status=1)
        entries = here.umbel("log", told["run-id"], "--on", "local", "--json")
        return [entry["data"]["message"] for entry in entries if entry["event"] == "failure"]

    def test_its_owners_app_alone(self, alone):
        for number in range(2):
            alone.start_node(number, "--app", str(EXAMPLE), "--set", "num-partitions=2")
        assert run(alone, EXAMPLE, "-c", "num-rounds=1")["status"] == "succeeded"
        refused = self.failures(alone, SCENARIOS)
        assert len(refused) == 2
        assert all("'scenarios:client'" in text and "alone" in text for text in refused)

    def test_what_a_trusted_key_signed(self, alone, tmp_path):
        names = ("mine", "other")
        keys = {name: alone.umbel("key", "create", tmp_path / name).strip() for name in names}
        assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o600
        for number in range(2):
            alone.start_node(number, "--trust", keys["mine"])
        signed = run(alone, SCENARIOS, "--sign", str(tmp_path / "mine"))
        assert signed["status"] == "succeeded"
        by_another = self.failures(alone, SCENARIOS, "--sign", str(tmp_path / "other"))
        assert all(keys["other"] in text and "not trusted" in text for text in by_another)
        unsigned = self.failures(alone, SCENARIOS)
        assert all("is not signed" in text for text in unsigned)
        assert len(by_another) == len(unsigned) == 2
        alone.umbel("key", "create", tmp_path / "mine", status=2)
        run(alone, SCENARIOS, "--sign", str(tmp_path / "no-key"), status=2)


def test_commands_say_what_is_wrong(deployment):
    told = deployment.umbel("run", SCENARIOS, "--on", "nowhere", "--json", status=2)
    assert "no connection 'nowhere'" in json.dumps(told)
    told = deployment.umbel("log", "no-such-run", "--on", "local", "--json", status=2)
    assert "no runs there" in json.dumps(told)
