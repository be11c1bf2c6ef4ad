import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import ConfigError, ProtocolError
from umbel.privacy import (
    CorrelatedEvent,
    DiscreteGaussianEvent,
    FixedSize,
    GaussianEvent,
    LaplaceEvent,
    NoAmplification,
    Poisson,
    SkellamEvent,
    event_from_json,
    event_to_json,
    natural_adjacency,
)

NOT_POSITIVE = [math.nan, math.inf, -math.inf, -1.0, 0.0, "1", None, True]

numbers = st.floats(min_value=1e-50, max_value=1e50)
sizes = st.integers(1, 10**9)
samplings = st.one_of(
    st.just(NoAmplification()),
    st.floats(0, 1, exclude_min=True).map(Poisson),
    st.tuples(sizes, sizes).map(lambda pair: FixedSize(min(pair), max(pair))),
)
events = st.one_of(
    st.builds(GaussianEvent, numbers, samplings),
    st.builds(LaplaceEvent, numbers, samplings),
    st.builds(DiscreteGaussianEvent, numbers, numbers, numbers, sizes, sizes, samplings),
    st.builds(SkellamEvent, numbers, numbers, numbers, samplings),
    st.builds(CorrelatedEvent, numbers, numbers, sizes, st.text()),
)


@given(events)
def test_an_event_comes_back_from_its_json_exactly(event):
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event


@pytest.mark.parametrize("bad", NOT_POSITIVE)
def test_a_parameter_that_makes_no_guarantee_is_refused(bad):
    with pytest.raises(ConfigError, match="noise_multiplier is a finite number above zero"):
        GaussianEvent(bad)
    with pytest.raises(ConfigError, match="noise_multiplier"):
        LaplaceEvent(bad)
    with pytest.raises(ConfigError, match="variance"):
        SkellamEvent(bad, 1.0, 1.0)
    with pytest.raises(ConfigError, match="sensitivity_l1"):
        DiscreteGaussianEvent(1.0, 1.0, bad, 1)
    with pytest.raises(ConfigError, match="sensitivity"):
        CorrelatedEvent(1.0, bad, 1, "once")


@pytest.mark.parametrize("bad", [1e-51, 1e51, 5e-324])
def test_a_parameter_whose_square_is_no_number_is_refused(bad):
    with pytest.raises(ConfigError, match="noise_multiplier lies between"):
        GaussianEvent(bad)


@pytest.mark.parametrize("bad", [math.nan, -0.1, 0.0, 1.1, "0.5", True])
def test_a_rate_is_a_probability(bad):
    with pytest.raises(ConfigError, match="rate is a probability"):
        Poisson(bad)


@pytest.mark.parametrize(("size", "population"), [(0, 5), (6, 5), (1.5, 5), (math.nan, 5)])
def test_a_sample_is_a_part_of_its_population(size, population):
    with pytest.raises(ConfigError):
        FixedSize(size, population)


def test_sampling_is_one_of_three():
    with pytest.raises(ConfigError, match=r"Poisson\(...\)"):
        GaussianEvent(1.0, 0.01)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "cauchy"},
        {"kind": "gaussian"},
        {"kind": "gaussian", "noise_multiplier": "NaN"},
        {"kind": "gaussian", "noise_multiplier": 1.0, "colour": 1},
        {"kind": "gaussian", "noise_multiplier": 1.0, "sampling": {"kind": "lottery"}},
    ],
)
def test_an_entry_that_is_no_event_says_so(data):
    with pytest.raises(ProtocolError):
        event_from_json(data)


def test_each_sampling_has_the_adjacency_that_it_is_accounted_for():
    assert natural_adjacency(Poisson(0.5)) == "add-or-remove-one"
    assert natural_adjacency(FixedSize(1, 2)) == "replace-one"
    assert natural_adjacency(NoAmplification()) == "zero-out"
