"""Reading a policy: what is not known or not possible is an error, and says what would be."""

import doctest
import re
from pathlib import Path

import pytest

from umbel.base import ConfigError
from umbel.clientapp import parse_policy
from umbel.clientapp.policy.document import KEYS

ROOT = Path(__file__).parents[3]
HASH = "ab" * 32


def test_what_is_not_mentioned_is_closed(policy):
    least = policy()
    assert least.arrays is least.privacy is least.secure_aggregation is None
    assert (dict(least.metrics), dict(least.configs)) == ({}, {})
    assert (least.errors, least.output) == ("kind", False)


@pytest.mark.parametrize(
    ("text", "complaint", "hint"),
    [
        ("[array]\nmax-count = 1", "does not know 'array'", "arrays"),
        ("[arrays]\nmax_count = 1", "does not know 'max_count'", "did you mean max-count"),
        ("[privacy]\nclip = 1.0", "does not say data-set", "data-set"),
        ("[arrays]\nmax-count = 0", "max-count = 0", "1 or more"),
        ("[arrays]\nmax-count = true", "max-count = True", "an integer"),
        ("[arrays]\ndtypes = []", "dtypes = []", "not empty"),
        ('[arrays]\ndtypes = ["f", "f"]', "dtypes", "none of them twice"),
        ("[metrics.loss]\nminimum = nan", "minimum = nan", "a finite number"),
        ("[metrics.loss]\nmaximum = inf", "maximum = inf", "a finite number"),
        ("[metrics.loss]\nstep = nan", "step = nan", "above 0"),
        ("[metrics.loss]\nstep = 0", "step = 0", "above 0"),
        ('[metrics.loss]\nminimum = "0"', "minimum = '0'", "a finite number"),
        ("[metrics.loss]\nminimum = 2\nmaximum = 1", "not below", "swap"),
        ("[metrics.loss]\nnoise-multiplier = 1.0", "has no bounds", "minimum and a maximum"),
        ("[metrics]\nloss = 3", "[metrics.loss] is not a table", "[metrics.loss]"),
        ('[privacy]\ndata-set = "d"\nclip = nan', "clip = nan", "above 0"),
        ('[privacy]\ndata-set = "d"\nclip = -1', "clip = -1", "above 0"),
        ('[privacy]\ndata-set = " "', "data-set", "not empty"),
        ('[privacy]\ndata-set = "d"\nnoise-multiplier = 1', "what is bounded", "clip"),
        ('[privacy]\ndata-set = "d"\nclip = 1\nepsilon = 1', "epsilon and delta", "both"),
        ('[privacy]\ndata-set = "d"\nclip = 1\ndelta = 1.0', "delta = 1.0", "below 1"),
        ('[privacy]\ndata-set = "d"\nclip = 1\ndelta = nan', "delta = nan", "below 1"),
        (
            '[arrays]\n[privacy]\ndata-set = "d"\nclip = 1\nepsilon = 1\ndelta = 1e-6',
            "without noise",
            "noise-multiplier",
        ),
        ('[privacy]\ndata-set = "d"\nepsilon = 1\ndelta = 1e-6', "nothing that spends", "remove"),
        ('[[apps]]\nname = "a"\nepsilon = 1', "that there is not", "[privacy]"),
        ('[[apps]]\nname = "a"\nbundles = ["1"]', "bundles", "64 hexadecimal digits"),
        ('[[apps]]\nname = "a"\nsigners = ["rsa"]', "signers", "ed25519:"),
        ('[apps]\nname = "a"', "apps is not a list", "[[apps]]"),
        ('[errors]\ntell = "all"', "tell = 'all'", '"nothing" or "kind" or "text"'),
        ("[output]\nlog = 1", "log = 1", "true or false"),
        ("[configs.note]", "does not say values", "values"),
        ("[configs.note]\nvalues = [[1]]", "values", "a boolean, a finite number or text"),
        ('[opening-hours]\nopen = ["mon 08:00-09:00"]', "time-zone", "time-zone"),
        (
            '[opening-hours]\ntime-zone = "Mars/Base"\nopen = ["mon 08:00-09:00"]',
            "Mars/Base",
            "Europe/Berlin",
        ),
        (
            '[opening-hours]\ntime-zone = "UTC"\nopen = ["mon 8-9"]',
            "open",
            "mon-fri 20:00-06:00",
        ),
        ("[secure-aggregation]\nminimum-cohort = 1", "minimum-cohort = 1", "2 or more"),
        ("[secure-aggregation]\nminimum-cohort = 3", "none may leave", "[arrays]"),
        (
            '[arrays]\n[privacy]\ndata-set = "d"\nclip = 1\n'
            "[secure-aggregation]\nminimum-cohort = 3",
            "neither clipped nor noised",
            "one of the two",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_would_be_right(policy, text, complaint, hint):
    with pytest.raises(ConfigError) as caught:
        policy(text)
    assert complaint in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.context["file"] == "policy.toml"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("contact = [", "not a TOML file"),
        ('[messages]\ntypes = ["train"]', "does not say contact"),
        ('contact = "dpo"', "does not say what is answered"),
        ('contact = "dpo"\nmessages = 1', "[messages] is not a table"),
        ('contact = "dpo"\n[messages]\ntypes = ["learn"]', "types = ['learn']"),
        ('contact = "dpo"\n[messages]\ntypes = ["train.*.x"]', "types"),
        ("contact = 3", "contact = 3"),
        ('contact = "dpo"\nmetrics = 3\n[messages]\ntypes = ["train"]', "metrics is not a table"),
    ],
)
def test_a_file_that_is_no_policy(text, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        parse_policy(text)


def test_paths_are_those_of_the_file():
    text = 'contact = "dpo"\n[messages]\ntypes = ["train"]\n[arrays]\n'
    text += '[secure-aggregation]\nminimum-cohort = 3\nidentity = "key.pem"\ntrusted = "/etc/t"'
    rules = parse_policy(text, "/etc/umbel/policy.toml").secure_aggregation
    assert (rules.identity, rules.trusted) == ("/etc/umbel/key.pem", "/etc/t")


def test_hashes_are_read_with_and_without_their_kind(policy):
    (app,) = policy(f'[[apps]]\nname = "a"\nbundles = ["sha256:{HASH}"]').apps
    assert app.bundles == (HASH,)


def test_the_docs_list_every_key_and_no_other():
    text = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    told: dict[str, set[str]] = {}
    section = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"### `\[*([a-z-]+)(?:\.NAME)?\]*`", line):
            section = match[1]
            told[section] = set()
        elif match := re.match(r"\| `([a-z-]+)` \|", line):
            told[section].add(match[1])
    assert told == {name: set(keys) for name, keys in KEYS.items()}


@pytest.mark.parametrize("file", sorted((ROOT / "examples" / "policies").glob("*.toml")), ids=str)
def test_every_shipped_policy_can_be_read(file):
    assert parse_policy(file.read_text(encoding="utf-8"), str(file)).contact


def test_the_examples_of_the_docs_run():
    page = ROOT / "docs" / "policy.md"
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted >= page.read_text(encoding="utf-8").count("```pycon") > 0
