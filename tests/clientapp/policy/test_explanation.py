"""A policy in plain words: each rule shows, and each gap is warned of."""

import pytest

from umbel.clientapp import explain_policy

PART = '[[apps]]\nname = "a"\nepsilon = 1\n'
SPENT = "noise-multiplier = 1\nepsilon = 2\ndelta = 1e-6"
FLOOR = '[arrays]\n[privacy]\ndata-set = "d"\nclip = 2\n'
KEY = "ed25519:" + "A" * 43 + "="


@pytest.mark.parametrize(
    ("text", "about", "words"),
    [
        ("", "apps", "Every app"),
        (PART + FLOOR + SPENT, "apps", "'a', spending at most ε = 1"),
        ("[arrays]\nmax-count = 3\nmax-bytes = 9", "arrays", "at most 3 in a reply, at most 9"),
        ("[arrays]\npartial = true", "arrays", "some of a record may be missing"),
        ('[arrays]\nalso = ["a/b"]', "arrays", "So may a/b, in any shape."),
        ("[metrics.x]\nminimum = 0", "metrics", "x from 0 on"),
        ("[metrics.x]\nmaximum = 1\nstep = 0.5", "metrics", "x up to 1, in steps of 0.5"),
        ("[metrics.x]\nminimum = 0\nmaximum = 1\nnoise-multiplier = 2", "metrics",
         "x between 0 and 1, with noise of 2 times the range"),
        ("[configs.s]\nvalues = [1, 2]", "settings", "s: one of 2 values"),
        ('[errors]\ntell = "nothing"', "errors", "that there was one"),
        ("[output]\nlog = true", "output", "goes to the node's own log"),
        (FLOOR, "privacy", "The change that a reply makes has at most the L2 norm 2."),
        (FLOOR + 'reply-is = "update"', "privacy", "The update has at most the L2 norm 2"),
        (FLOOR + "noise-multiplier = 3", "privacy", "standard deviation 6 is added"),
        ('[privacy]\ndata-set = "d"', "privacy", "Nothing is clipped"),
        ("[arrays]\n[secure-aggregation]\nminimum-cohort = 5", "secure aggregation",
         "No sum is of fewer than 5 clients."),
        ("[arrays]\n[secure-aggregation]\nminimum-cohort = 5\nrequired = true",
         "secure aggregation", "Training is answered under it alone, and no sum"),
    ],
)  # fmt: skip
def test_each_rule_shows(policy, text, about, words):
    assert words in dict(explain_policy(policy(text)).sentences)[about]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Any app may run"),
        ('[[apps]]\nname = "a"', "Anybody can call an app 'a'"),
        ("[arrays]", "as the app made them"),
        (FLOOR, "hold no noise"),
        (FLOOR + "noise-multiplier = 1", "averages out"),
        ("[metrics.x]\nminimum = 0\nmaximum = 1", "metrics.x can hold data"),
        ("[arrays]\n[secure-aggregation]\nminimum-cohort = 5", "pin the app"),
    ],
)
def test_each_gap_is_warned_of(policy, text, words):
    assert any(words in warning for warning in explain_policy(policy(text)).warnings)


def test_nothing_is_warned_of_without_cause(policy):
    text = f'[[apps]]\nname = "a"\nsigners = ["{KEY}"]\n{FLOOR}noise-multiplier = 1\n'
    text += "epsilon = 1\ndelta = 1e-6\n[metrics.x]\nminimum = 0\nmaximum = 1\nstep = 0.1"
    assert explain_policy(policy(text)).warnings == ()
