import builtins
import math

import dp_accounting as dp
import pytest
from dp_accounting.pld import PLDAccountant as DpPldAccountant
from dp_accounting.rdp import RdpAccountant as DpRdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import ConfigError, MissingDependency
from umbel.privacy import (
    CorrelatedEvent,
    DiscreteGaussianEvent,
    FixedSize,
    GaussianEvent,
    LaplaceEvent,
    NoAmplification,
    PldAccountant,
    Poisson,
    RdpAccountant,
    SkellamEvent,
    gaussian_delta,
    gaussian_epsilon,
    make_accountant,
)
from umbel.privacy import accounting as module

DELTA = 1e-6
REPLACE_ONE = dp.NeighboringRelation.REPLACE_ONE


def composed(accountant, schedule):
    for event, count in schedule:
        accountant = accountant.compose(event, count)
    return accountant


def poisson_gaussian(noise, rate):
    return dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))


# Ours beside the library's own events.
SCHEDULES = {
    "poisson": [(GaussianEvent(1.0, Poisson(0.01)), poisson_gaussian(1.0, 0.01), 100)],
    "changing noise": [
        (GaussianEvent(1.5, Poisson(0.02)), poisson_gaussian(1.5, 0.02), 10),
        (GaussianEvent(1.2, Poisson(0.02)), poisson_gaussian(1.2, 0.02), 5),
        (GaussianEvent(1.2, Poisson(0.05)), poisson_gaussian(1.2, 0.05), 5),
        (GaussianEvent(1.5, Poisson(0.02)), poisson_gaussian(1.5, 0.02), 10),
    ],
    "laplace": [(LaplaceEvent(20.0), dp.LaplaceDpEvent(20.0), 30)],
}
EVERYBODY = {
    "gaussian": [(GaussianEvent(4.0), dp.GaussianDpEvent(4.0), 16)],
    "mixed": [
        (GaussianEvent(8.0), dp.GaussianDpEvent(8.0), 3),
        (GaussianEvent(2.0, Poisson(0.01)), poisson_gaussian(2.0, 0.01), 20),
        (GaussianEvent(6.0), dp.GaussianDpEvent(6.0), 1),
        (LaplaceEvent(50.0), dp.LaplaceDpEvent(50.0), 2),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SCHEDULES, *EVERYBODY])
def test_rdp_is_what_dp_accounting_says(name):
    schedule = (SCHEDULES | EVERYBODY)[name]
    ours = composed(RdpAccountant(), [(event, count) for event, _, count in schedule])
    theirs = composed(DpRdpAccountant(), [(event, count) for _, event, count in schedule])
    assert ours.epsilon(DELTA) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-12)
    assert ours.delta(1.5) == pytest.approx(theirs.get_delta(1.5), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_pld_is_what_dp_accounting_says(name):
    ours = composed(PldAccountant(), [(event, count) for event, _, count in SCHEDULES[name]])
    theirs = composed(DpPldAccountant(), [(event, count) for _, event, count in SCHEDULES[name]])
    # Both leave out tails of 1e-15, each in its own way.
    assert ours.epsilon(DELTA) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-7)
    assert ours.delta(0.7) == pytest.approx(theirs.get_delta(0.7), rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYBODY)
def test_gaussians_without_amplification_are_one_and_never_above_dp_accounting(name):
    ours = composed(PldAccountant(), [(event, count) for event, _, count in EVERYBODY[name]])
    theirs = composed(DpPldAccountant(), [(event, count) for _, event, count in EVERYBODY[name]])
    # The library rounds losses up to a grid of 1e-4, once for each group of equal events.
    assert ours.epsilon(DELTA) <= theirs.get_epsilon(DELTA)
    assert ours.epsilon(DELTA) == pytest.approx(theirs.get_epsilon(DELTA), abs=3e-4)


@pytest.mark.slow
def test_a_fixed_size_is_what_dp_accounting_says_of_sums_that_are_two_bounds_apart():
    ours = RdpAccountant("replace-one").compose(GaussianEvent(4.0, FixedSize(20, 1000)), 50)
    theirs = DpRdpAccountant(neighboring_relation=REPLACE_ONE).compose(
        dp.SampledWithoutReplacementDpEvent(1000, 20, dp.GaussianDpEvent(4.0 / 2)), 50
    )
    assert ours.epsilon(DELTA) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-12)


def test_a_large_sample_costs_no_more_than_all():
    everybody = RdpAccountant("replace-one").compose(GaussianEvent(2.0), 10).epsilon(DELTA)
    costs = [
        RdpAccountant("replace-one")
        .compose(GaussianEvent(2.0, FixedSize(n, 20)), 10)
        .epsilon(DELTA)
        for n in (5, 15, 19, 20)
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1] == everybody


@pytest.mark.slow
def test_a_fixed_size_bound_holds_for_two_units_of_which_one_is_replaced_by_its_opposite():
    # One of {+1, +1} is drawn, or one of {-1, +1}: the noise is around 1, or around either.
    noise = 0.7
    true = math.log1p(0.25 * math.expm1((2 / noise) ** 2))  # at order 2, the mixture beside the one
    ours = RdpAccountant("replace-one").compose(GaussianEvent(noise, FixedSize(1, 2)))
    at_two = dict(zip(ours.orders, ours.divergences, strict=True))[2.0]
    assert true <= at_two < true + math.log(4)


# McMahan, Ramage, Talwar and Zhang, "Learning differentially private recurrent language models"
# (ICLR 2018, arXiv:1710.06963): users, users a round, noise z, rounds, delta, epsilon. The first
# two are the main figures of section 3 (5000 rounds; with 763 430 users, and with 10^8); the
# others are of the table with delta = users^-1.1.
MCMAHAN = [
    (763_430, 5000, 1.0, 5000, 1e-9, 4.634),
    (1e8, 5000, 1.0, 5000, 1e-9, 1.152),
    (1e5, 1e2, 1.0, 1e5, 1e5**-1.1, 2.21),
    (1e6, 1e3, 1.0, 1e4, 1e6**-1.1, 1.39),
    (1e6, 1e3, 3.0, 1e5, 1e6**-1.1, 0.67),
    (1e6, 1e4, 1.0, 1e5, 1e6**-1.1, 32.38),
]


@pytest.mark.parametrize(("users", "sample", "noise", "rounds", "delta", "published"), MCMAHAN)
def test_federated_averaging_costs_what_its_paper_says(
    users, sample, noise, rounds, delta, published
):
    event = GaussianEvent(noise, Poisson(sample / users))
    accountant = RdpAccountant().compose(event, int(rounds))
    # Their moments accountant: moments up to 32, and the first conversion to epsilon (Abadi 2016).
    pairs = zip(accountant.orders, accountant.divergences, strict=True)
    theirs = min(d - math.log(delta) / (o - 1) for o, d in pairs if o in range(2, 34))
    assert theirs == pytest.approx(published, abs=0.0055 if published < 5 else 0.02)
    assert accountant.epsilon(delta) < published  # today's conversion is tighter


@pytest.mark.parametrize(("noise", "epochs", "published"), [(1.12, 60, 2.92), (1.2, 10, 1.20)])
def test_the_tutorial_of_tensorflow_privacy_gives_its_figures(noise, epochs, published):
    # tutorials/README.md of tensorflow/privacy: MNIST, batches of 256, delta 1e-5.
    accountant = RdpAccountant().compose(
        GaussianEvent(noise, Poisson(256 / 60_000)), epochs * 60_000 // 256
    )
    pairs = zip(accountant.orders, accountant.divergences, strict=True)
    theirs = min(d - math.log(1e-5) / (o - 1) for o, d in pairs)
    assert theirs == pytest.approx(published, abs=0.005)
    assert accountant.epsilon(1e-5) < published


@pytest.mark.slow
def test_pld_is_tighter_than_rdp():
    event = GaussianEvent(1.0, Poisson(5000 / 763_430))
    tight, loose = (make_accountant(name).compose(event, 5000) for name in ("pld", "rdp"))
    assert 0.85 * loose.epsilon(1e-9) < tight.epsilon(1e-9) < loose.epsilon(1e-9)


@pytest.mark.parametrize("noise", [0.3, 1.0, 17.0])
def test_one_gaussian_under_pld_is_the_analytic_gaussian(noise):
    accountant = PldAccountant().compose(GaussianEvent(noise))
    assert accountant.epsilon(DELTA) == gaussian_epsilon(noise, DELTA)
    assert accountant.delta(1.0) == gaussian_delta(noise, 1.0)
    assert accountant.epsilon(DELTA) == pytest.approx(dp.get_epsilon_gaussian(noise, DELTA))


def test_a_distribution_of_one_gaussian_is_the_analytic_one_too():
    # Through the grid: a Laplace release that says almost nothing keeps it off the exact way.
    accountant = composed(PldAccountant(), [(GaussianEvent(2.0), 1), (LaplaceEvent(1e9), 1)])
    assert accountant.epsilon(DELTA) == pytest.approx(gaussian_epsilon(2.0, DELTA), abs=2e-4)


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_correlated_noise_is_one_gaussian_with_the_mechanism_s_sensitivity(name):
    correlated = CorrelatedEvent(6.0, 3.0, rounds=64, participation="once")
    one = make_accountant(name).compose(correlated)
    assert one.epsilon(DELTA) == make_accountant(name).compose(GaussianEvent(2.0)).epsilon(DELTA)
    zcdp = DpRdpAccountant().compose(dp.ZCDpEvent(rho=0.5 / 2.0**2))
    if name == "rdp":
        assert one.epsilon(DELTA) == pytest.approx(zcdp.get_epsilon(DELTA), rel=1e-12)


@pytest.mark.parametrize("name", ["pld", "rdp"])
@pytest.mark.parametrize("kind", [GaussianEvent, LaplaceEvent])
def test_a_replaced_unit_moves_a_sum_twice_as_far(name, kind):
    replaced = make_accountant(name, "replace-one").compose(kind(10.0))
    removed = make_accountant(name, "add-or-remove-one").compose(kind(5.0))
    zeroed = make_accountant(name, "zero-out").compose(kind(5.0))
    assert replaced.epsilon(DELTA) == removed.epsilon(DELTA) == zeroed.epsilon(DELTA)


noises = st.floats(0.4, 50)
rates = st.floats(1e-4, 0.9)
events = st.one_of(
    st.builds(GaussianEvent, noises),
    st.builds(LaplaceEvent, noises),
    st.builds(LaplaceEvent, noises, rates.map(Poisson)),
    st.builds(GaussianEvent, noises, rates.map(Poisson)),
    st.builds(lambda noise: SkellamEvent((100 * noise) ** 2, 100.0, 900.0), noises),
    st.builds(lambda noise: DiscreteGaussianEvent(10 * noise, 10.0, 90.0, 100, 8), noises),
)


@settings(max_examples=15)
@given(events, st.integers(1, 100), st.integers(1, 100))
def test_more_rounds_cost_more_and_composition_is_one_sum(event, first, second):
    start = RdpAccountant()
    one, both = start.compose(event, first), start.compose(event, first + second)
    assert start.epsilon(DELTA) == 0 <= one.epsilon(DELTA) <= both.epsilon(DELTA)
    assert one.delta(1.0) <= both.delta(1.0) <= 1
    assert one.compose(event, second).epsilon(DELTA) == both.epsilon(DELTA)


@pytest.mark.slow
@settings(max_examples=20)
@given(noises, rates, st.floats(1.01, 2))
def test_less_noise_and_a_larger_share_cost_more(noise, rate, more):
    def cost(noise, rate):
        return RdpAccountant().compose(GaussianEvent(noise, Poisson(rate)), 10).epsilon(DELTA)

    larger = min(1.0, rate * more)
    assert cost(noise * more, rate) <= cost(noise, rate) <= cost(noise, larger) * (1 + 1e-9)


@pytest.mark.slow
@settings(max_examples=5)
@given(st.floats(0.8, 5), st.floats(1e-3, 0.3), st.integers(1, 20))
def test_more_rounds_cost_more_under_pld_and_never_more_than_under_rdp(noise, rate, rounds):
    event = GaussianEvent(noise, Poisson(rate))
    few, many = (PldAccountant().compose(event, n) for n in (rounds, 2 * rounds))
    assert few.epsilon(DELTA) <= many.epsilon(DELTA)
    assert many.epsilon(DELTA) <= RdpAccountant().compose(event, 2 * rounds).epsilon(DELTA) + 1e-4


@pytest.mark.slow
def test_runs_of_equal_events_come_to_the_same_however_they_are_asked_for():
    a, b = GaussianEvent(2.0, Poisson(0.05)), GaussianEvent(2.5, Poisson(0.05))
    schedule = [a, a, b, b, b, a]
    live = PldAccountant()
    for event in schedule:
        live = live.compose(event)
        live.epsilon(DELTA)
    replayed = composed(PldAccountant(), [(event, 1) for event in schedule])
    assert live.epsilon(DELTA) == replayed.epsilon(DELTA)
    other = live.compose(b)
    assert live.compose(a).epsilon(DELTA) != other.epsilon(DELTA)
    assert replayed.compose(b).epsilon(DELTA) == other.epsilon(DELTA)


@pytest.mark.parametrize(
    "event", [GaussianEvent(1.0, Poisson(0.5)), GaussianEvent(0.05, Poisson(0.5))]
)
def test_where_there_is_no_privacy_to_speak_of_pld_gives_the_renyi_bound(event):
    pld, rdp = (make_accountant(name).compose(event, 1000) for name in ("pld", "rdp"))
    assert pld.epsilon(DELTA) == rdp.epsilon(DELTA) > 100
    assert pld.delta(3.0) == rdp.delta(3.0)


@pytest.mark.parametrize(
    ("name", "adjacency", "event", "hint"),
    [
        ("pld", "add-or-remove-one", SkellamEvent(100.0, 1.0, 1.0), 'accountant="rdp"'),
        ("pld", "add-or-remove-one", DiscreteGaussianEvent(9.0, 1.0, 1.0, 5), 'accountant="rdp"'),
        ("pld", "replace-one", GaussianEvent(1.0, FixedSize(1, 9)), 'accountant="rdp"'),
        ("rdp", "add-or-remove-one", GaussianEvent(1.0, FixedSize(1, 9)), '"replace-one"'),
        ("rdp", "replace-one", LaplaceEvent(1.0, FixedSize(1, 9)), "Poisson"),
        ("rdp", "replace-one", GaussianEvent(1.0, Poisson(0.5)), '"add-or-remove-one"'),
        ("pld", "replace-one", GaussianEvent(1.0, Poisson(0.5)), '"add-or-remove-one"'),
    ],
)
def test_what_has_no_bound_is_refused_with_the_way_out(name, adjacency, event, hint):
    with pytest.raises(ConfigError) as caught:
        make_accountant(name, adjacency).compose(event)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["pld", "rdp"])
@pytest.mark.parametrize("bad", [math.nan, -1e-6, 0.0, 1.0, 2.0, None])
def test_delta_is_a_probability(name, bad):
    with pytest.raises(ConfigError, match="delta is a probability"):
        make_accountant(name).epsilon(bad)


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_numbers_that_are_none_are_refused(name):
    accountant = make_accountant(name)
    for bad in (math.nan, -1.0):
        with pytest.raises(ConfigError, match="epsilon is a number of zero or more"):
            accountant.delta(bad)
    for count in (0, -1, 1.5):
        with pytest.raises(ConfigError, match="count"):
            accountant.compose(GaussianEvent(1.0), count)
    with pytest.raises(ConfigError, match="no accountant"):
        make_accountant("gdp")
    with pytest.raises(ConfigError, match="no adjacency"):
        make_accountant(name, "edge")


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_nothing_released_costs_nothing(name):
    accountant = make_accountant(name)
    assert accountant.epsilon(DELTA) == accountant.delta(0.0) == 0


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("dp_accounting"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    module._library.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency) as caught:
        RdpAccountant().epsilon(DELTA)
    assert caught.value.hint == 'pip install "umbel[dp]"'


def test_the_library_does_not_warn_of_orders_that_it_leaves_out(caplog):
    RdpAccountant().compose(GaussianEvent(3.21, Poisson(0.5)))
    assert not caplog.records


def test_an_accountant_does_not_change():
    start = RdpAccountant()
    start.compose(GaussianEvent(1.0))
    assert start.epsilon(DELTA) == 0
    assert NoAmplification() == GaussianEvent(1.0).sampling
