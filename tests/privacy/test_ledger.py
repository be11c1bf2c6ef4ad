import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import ConfigError, PrivacyBudgetExhausted, RoundError, StateError
from umbel.privacy import (
    CorrelatedEvent,
    DiscreteGaussianEvent,
    GaussianEvent,
    LaplaceEvent,
    Poisson,
    PrivacyLedger,
    SkellamEvent,
    Spent,
    calibrate,
    make_accountant,
)

DELTA = 1e-6
EVENT = GaussianEvent(2.0, Poisson(0.01))
OTHER = GaussianEvent(1.5, Poisson(0.01))


def ledger(epsilon=None, **options):
    return PrivacyLedger(epsilon, DELTA, **{"accountant": "rdp"} | options)


def test_a_ledger_counts_what_its_accountant_does():
    book = ledger()
    for number in range(20):
        book.spend(("round", number), EVENT if number % 3 else OTHER)
    straight = make_accountant("rdp").compose(OTHER, 7).compose(EVENT, 13)
    assert book.epsilon == straight.epsilon(DELTA)
    assert [spent.epsilon for spent in book.entries] == sorted(s.epsilon for s in book.entries)


def test_one_key_is_one_release():
    book = ledger()
    first = book.spend(("a", 1), EVENT)
    assert book.spend(("a", 1), EVENT) is first
    assert book.entries == (first,)
    assert book.epsilon == first.epsilon
    with pytest.raises(StateError, match="two different releases"):
        book.spend(("a", 1), OTHER)
    assert book.entries == (first,)


def test_asking_spends_nothing():
    book = ledger()
    asked = book.would_spend(EVENT)
    assert (book.epsilon, book.entries) == (0.0, ())
    assert book.spend((1,), EVENT).epsilon == asked
    assert book.would_spend(EVENT, 5) > book.would_spend(EVENT) > asked


@settings(max_examples=20)
@given(st.lists(st.sampled_from([EVENT, OTHER, LaplaceEvent(30.0)]), min_size=1), st.floats(0.1, 3))
def test_a_ledger_stops_before_its_budget_and_never_after(events, budget):
    book, released = ledger(budget), 0
    for number, event in enumerate(events):
        try:
            book.spend((number,), event)
        except PrivacyBudgetExhausted:
            assert book.would_spend(event) > budget
            break
        released += 1
        assert book.epsilon <= budget
    assert len(book.entries) == released
    assert book.epsilon <= budget


def test_the_error_says_what_was_left():
    book = ledger(1.0)
    book.spend((0,), EVENT)
    with pytest.raises(PrivacyBudgetExhausted) as caught:
        book.check(GaussianEvent(0.5))
    assert isinstance(caught.value, RoundError)
    assert "over the budget of 1" in caught.value.message
    assert f"from {book.epsilon:.4g}" in caught.value.message
    assert caught.value.context == {"releases": 1}
    assert len(book.entries) == 1


@pytest.mark.slow
def test_a_calibrated_run_ends_exactly_at_its_budget():
    plan = calibrate(25, Poisson(0.05), epsilon=1.0, delta=DELTA, accountant="rdp")
    book = ledger(1.0)
    event = GaussianEvent(plan.noise_multiplier, plan.sampling)
    for number in range(25):
        book.spend((number,), event)
    with pytest.raises(PrivacyBudgetExhausted):
        book.spend((25,), event)
    assert book.epsilon == plan.epsilon


@pytest.mark.parametrize("accountant", ["rdp", pytest.param("pld", marks=pytest.mark.slow)])
def test_a_replayed_ledger_is_the_same_to_the_last_bit(accountant):
    book = ledger(accountant=accountant)
    for number in range(6):
        book.spend(("start", 0, number, "ff"), EVENT if number != 3 else OTHER)
    written = [json.loads(json.dumps(spent.to_json())) for spent in book.entries]
    again = ledger(accountant=accountant)
    again.replay(Spent.from_json(data) for data in written)
    assert again.entries == book.entries
    assert again.epsilon == book.epsilon
    assert again.would_spend(EVENT) == book.would_spend(EVENT)
    again.replay(book.entries)  # what it has seen already
    assert again.entries == book.entries


def test_history_is_entered_even_if_the_budget_is_smaller_now():
    book = ledger()
    book.spend((0,), GaussianEvent(0.5))
    later = ledger(1.0)
    later.replay(book.entries)
    assert later.epsilon == book.epsilon > 1
    assert later.spend((0,), GaussianEvent(0.5)) == book.entries[0]
    with pytest.raises(PrivacyBudgetExhausted):
        later.spend((1,), GaussianEvent(1e6))
    with pytest.raises(StateError):
        later.replay([Spent((0,), EVENT, 1.0)])


@pytest.mark.parametrize(
    "event",
    [
        GaussianEvent(1e-50),
        GaussianEvent(1e-50, Poisson(0.5)),
        LaplaceEvent(1e-50),
        LaplaceEvent(1e-50, Poisson(0.5)),
        SkellamEvent(1e-50, 1e50, 1e50),
        DiscreteGaussianEvent(1e-50, 1e50, 1e50, 10, 3, Poisson(0.5)),
        CorrelatedEvent(1e-50, 1e50, 1, "once"),
    ],
)
def test_a_release_without_privacy_is_over_every_sensible_budget(event):
    assert ledger().would_spend(event) > 1e10
    with pytest.raises(PrivacyBudgetExhausted):
        ledger(1e10).spend((0,), event)


def test_an_infinite_epsilon_is_plain_json():
    entry = Spent((0, "a"), EVENT, math.inf)
    assert Spent.from_json(json.loads(json.dumps(entry.to_json(), allow_nan=False))) == entry


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_budget_is_a_number(bad):
    with pytest.raises(ConfigError, match="epsilon"):
        PrivacyLedger(bad, DELTA)
    with pytest.raises(ConfigError, match="delta"):
        PrivacyLedger(1.0, bad)


@pytest.mark.parametrize(
    ("accountant", "event"),
    [
        ("rdp", EVENT),
        ("pld", GaussianEvent(50.0)),
        pytest.param("pld", GaussianEvent(4.0, Poisson(0.01)), marks=pytest.mark.slow),
    ],
)
def test_a_long_run_makes_no_bound_anew_in_any_round(accountant, event, monkeypatch):
    book = ledger(accountant=accountant)
    book.spend(("first",), event)
    monkeypatch.setattr("umbel.privacy.accounting._composed", None)  # would be called, and fail
    monkeypatch.setattr("umbel.privacy.accounting.LossesOfOne", None)
    for number in range(300):
        book.check(event)
        book.spend((number,), event)
    assert len(book.entries) == 301
