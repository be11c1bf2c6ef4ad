import json
import math
from dataclasses import replace

import pytest

from umbel.privacy import FixedSize, NoAmplification, Poisson, PrivacyStatement

STATEMENT = PrivacyStatement(
    epsilon=2.345678,
    delta=1e-6,
    unit="client",
    adjacency="add-or-remove-one",
    sampling=Poisson(0.01),
    mechanism="Gaussian, noise multiplier 1.1, clipping 0.5",
    noise_added_at="server",
    accountant="pld",
    noise_randomness="cryptographic",
    covers=("model",),
    not_covered=("metrics of clients", "evaluation"),
)


def test_all_of_it_is_printed():
    text = str(STATEMENT)
    assert len(text.splitlines()) == 4
    for part in (
        "ε = 2.346 at δ = 1e-06 for each client",
        "one client is added or removed",
        "Gaussian, noise multiplier 1.1, clipping 0.5",
        "added at the server",
        "cryptographic",
        "probability 0.01 (enforced)",
        "PLD",
        "Covers: model",
        "Not covered: metrics of clients, evaluation",
    ):
        assert part in text


def test_each_word_of_it_changes_the_text():
    other = replace(
        STATEMENT,
        adjacency="replace-one",
        unit="record",
        sampling=FixedSize(5, 100),
        sampling_enforced=False,
        accountant="rdp",
        noise_randomness="seeded: simulation only",
        not_covered=(),
    )
    text = str(other)
    for part in (
        "for each record",
        "the data of one record are replaced by any other",
        "5 of 100, without replacement (assumed, not enforced)",
        "seeded: simulation only",
        "RDP",
        "Not covered: nothing",
    ):
        assert part in text


def test_no_guarantee_is_said():
    assert "ε = ∞ (no guarantee)" in str(replace(STATEMENT, epsilon=math.inf))


@pytest.mark.parametrize("epsilon", [0.1 + 0.2, math.inf])
@pytest.mark.parametrize("sampling", [NoAmplification(), Poisson(1 / 3), FixedSize(2, 7)])
def test_a_statement_comes_back_from_its_json_exactly(epsilon, sampling):
    statement = replace(STATEMENT, epsilon=epsilon, sampling=sampling)
    text = json.dumps(statement.to_json(), allow_nan=False)
    assert PrivacyStatement.from_json(json.loads(text)) == statement
