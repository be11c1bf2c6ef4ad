"""``umbel policy``: what owners of data see before they start a node."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOSPITAL = ROOT / "examples" / "policies" / "hospital.toml"


def test_check_says_in_plain_words_what_is_allowed(umbel):
    result = umbel("policy", "check", str(HOSPITAL))
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    for words in (
        "Only these apps may run: 'chest-x-ray', signed with a key that is listed.",
        "train, evaluate are answered: at most 120 in an hour, at most 400 of one run",
        "open mon-fri 20:00-06:00, sat-sun 00:00-24:00 (Europe/Berlin)",
        "has at most the L2 norm 1",
        "at most ε = 4 at δ = 1e-06",
        "enough for 70 replies",
        "What an app prints is thrown away.",
    ):
        assert words in said
    assert "warning" not in said


def test_check_as_json(umbel):
    result = umbel("policy", "check", str(HOSPITAL), "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["success"], told["warnings"]) == (0, True, [])
    assert told["allows"]["settings"] == "No settings leave."


def test_check_warns_of_what_leaks_all_the_same(umbel, tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(
        'contact = "dpo"\n[messages]\ntypes = ["train"]\n[[apps]]\nname = "a"\n[arrays]\n'
        '[metrics.loss]\n[errors]\ntell = "text"\n[output]\nlog = true'
    )
    result = umbel("policy", "check", str(file), "--json")
    warnings = json.loads(result.stdout)["warnings"]
    assert result.exit_code == 0
    for about in ("'a'", "add [privacy] clip", "metrics.loss", "text of an error", "prints"):
        assert any(about in warning for warning in warnings), about
    assert "warning: Anybody can call" in umbel("policy", "check", str(file)).stdout


def test_check_warns_of_keys_that_are_not_there(umbel, tmp_path):
    file = tmp_path / "p.toml"
    rules = '[arrays]\n[secure-aggregation]\nminimum-cohort = 3\nidentity = "id.pem"'
    file.write_text(f'contact = "dpo"\n[messages]\ntypes = ["train"]\n{rules}')
    words = "The file of secure-aggregation.identity is not there"
    assert words in umbel("policy", "check", str(file)).stdout
    (tmp_path / "id.pem").touch()
    assert words not in umbel("policy", "check", str(file)).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "a policy does not know 'x'"),
        ('contact = "a"\n[messages]\ntype = ["train"]', "did you mean types"),
        (None, "the policy cannot be read"),
    ],
)
def test_what_is_no_policy_ends_with_2(umbel, tmp_path, text, words):
    file = tmp_path / "p.toml"
    if text is not None:
        file.write_text(text)
    result = umbel("policy", "check", str(file))
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert json.loads(umbel("policy", "check", str(file), "--json").stdout)["success"] is False
    assert umbel("node", "127.0.0.1:1", "--insecure", "--policy", str(file)).exit_code == 2


def test_pin_prints_lines_for_a_policy(umbel, tmp_path):
    lines = umbel("policy", "pin", str(ROOT / "examples" / "quickstart-numpy")).stdout
    file = tmp_path / "p.toml"
    file.write_text('contact = "dpo"\n[messages]\ntypes = ["train"]\n' + lines)
    checked = umbel("policy", "check", str(file))
    assert "'quickstart-numpy', in a version whose hash is listed" in " ".join(
        checked.stdout.split()
    )
