"""Secure aggregation on nodes whose owners let nothing but masked updates leave."""

from pathlib import Path

import pytest
from local_deployment import LocalDeployment

from umbel.serverapp import read_log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

APP = Path(__file__).parent / "apps" / "secure"
NODES = 4
POLICY = """
contact = "dpo@clinic"
[messages]
types = ["train"]
[arrays]
[secure-aggregation]
minimum-cohort = {least}
required = true
"""


def run(folder, least, status=0):
    """Run the app on nodes with the policy; return the run's log, its model, and a simulation's."""
    with LocalDeployment(folder, insecure=True) as here:
        (folder / "policy.toml").write_text(POLICY.format(least=least))
        here.start_server()
        options = ("--policy", str(folder / "policy.toml"), "--trust-any")
        for number in range(NODES):
            here.start_node(number, *options, "--set", f"num-partitions={NODES}")
        here.connect().close()
        done = here.umbel(
            *("run", APP, "--on", "local", "--json", "--seed", "7", "--stream"), status=status
        )
        log = list(read_log(here.run_folder(done["run-id"]) / "log.jsonl"))
        if status:
            return log, None, None
        alike = here.umbel("run", APP, "--nodes", str(NODES), "--seed", "7", "--json")
        return log, done["model_sha256"], alike["model_sha256"]


def test_what_is_masked_passes_and_the_sum_is_that_of_a_simulation(tmp_path):
    log, model, simulated = run(tmp_path, NODES)
    assert model == simulated
    assert not [entry for entry in log if entry.event == "failure"]


def test_a_cohort_that_is_too_small_is_refused_by_every_node(tmp_path):
    log, _, _ = run(tmp_path, NODES + 1, status=1)
    causes = [entry.data for entry in log if entry.event == "failure"]
    assert {cause["kind"] for cause in causes} == {"PolicyRefused"}
    assert all("minimum-cohort" in cause["message"] for cause in causes)
    assert {cause["node_id"] for cause in causes} == set(range(NODES))
