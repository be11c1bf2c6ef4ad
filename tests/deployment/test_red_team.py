"""An app that wants the data out, signed by whom the node trusts, against the shipped policy."""

import json
from pathlib import Path

import numpy as np
import pytest
from local_deployment import LocalDeployment

from umbel.deployment import create_signing_key
from umbel.records import ErrorCode

pytestmark = pytest.mark.slow

APP = Path(__file__).parent / "apps" / "redteam"
POLICY = Path(__file__).parents[2] / "examples" / "policies" / "hospital.toml"
SECRET = "Mrs-Smith-born-1950-HIV"
REFUSED = {
    "more_arrays": "[arrays.also]",
    "another_record": "[arrays.also]",
    "missing_arrays": "[arrays.partial]",
    "another_shape": "[arrays]",
    "text_in_an_array": "[arrays.dtypes]",
    "bits_of_nan": "[arrays]",
    "name_of_a_metric": "[metrics]",
    "list_of_metrics": "[metrics.loss]",
    "metric_that_is_no_number": "[metrics.loss]",
    "settings": "[configs]",
    "patched": "[arrays.also]",
}


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"the shipped policy has no {old}"
    return text.replace(old, new)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What came back of each attack, by its name; under "node" what the node printed."""
    folder = tmp_path_factory.mktemp("redteam")
    key = create_signing_key(folder / "key.pem")
    text = POLICY.read_text(encoding="utf-8")
    shipped = next(line for line in text.splitlines() if line.startswith("signers"))
    text = replaced(text, shipped, f'signers = ["{key}"]')
    text = replaced(text, '"mon-fri 20:00-06:00"', '"mon-sun 00:00-24:00"')  # whenever tests run
    (folder / "policy.toml").write_text(text)
    with LocalDeployment(folder / "deployment") as here:
        here.start_server()
        node = here.start_node(0, "--policy", str(folder / "policy.toml"))
        here.connect().close()
        run = here.umbel(
            *("run", APP, "--on", "local", "--stream", "--sign", folder / "key.pem", "--json"),
        )
        output = (here.run_folder(run["run-id"]) / "output.log").read_text()
        lines = [line for line in output.splitlines() if line.startswith("came back:")]
        answers = [json.loads(line.removeprefix("came back:")) for line in lines]
    return {each["attack"]: each for each in answers} | {"node": node.all_lines()}


def test_what_an_honest_client_does_is_let_through(told):
    records = told["none"]["records"]
    assert list(records) == ["arrays", "metrics"]
    assert records["metrics"] == {"num-examples": 120, "loss": 0.5}


@pytest.mark.parametrize("attack", REFUSED)
def test_the_way_out_is_closed(told, attack):
    answer = told[attack]
    assert answer["code"] == ErrorCode.POLICY_REFUSED, answer
    assert answer["kind"] == "PolicyRefused"
    assert REFUSED[attack] in answer["reason"]
    assert "dpo@hospital.example" in answer["reason"]


def test_data_in_place_of_the_model_drowns_in_noise(told):
    came = np.array(told["the_data_as_the_model"]["records"]["arrays"]["w"])
    pixels = np.where(np.random.default_rng(1).random(2000) < 0.5, -1.0, 1.0)
    assert came.std() == pytest.approx(20, rel=0.1)
    # A guess of each pixel by its sign is right as often as a coin: six standard deviations.
    assert abs(np.mean(np.sign(came) == pixels) - 0.5) < 6 * 0.5 / np.sqrt(2000)


def test_digits_of_metrics_are_cut_off(told):
    metrics = told["digits_of_a_metric"]["records"]["metrics"]
    assert metrics == {"num-examples": 100_000, "loss": 10.0}


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        ("text_of_an_error", "ValueError"),
        ("name_of_an_error", "Exception"),
        ("exit_code", "Exception"),
    ],
)
def test_errors_tell_no_more_than_a_kind_that_is_known(told, attack, kind):
    answer = told[attack]
    assert answer["kind"] == kind
    assert "withholds the text" in answer["reason"]


def test_the_secret_is_nowhere(told):
    everything = json.dumps({name: each for name, each in told.items() if name != "node"})
    assert SECRET not in everything
    assert told["log"]["records"]["metrics"]["loss"] == 0.5  # it did print, and was answered
    printed = [json.loads(line) for line in told["node"] if line.startswith("{")]
    assert not [line for line in printed if line["event"] == "output"]
    # To its owner the node says what was refused, with the app's words.
    assert any(line["event"] == "refused" and SECRET in line["text"] for line in printed)
