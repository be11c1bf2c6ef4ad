import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughNodes, Seeds
from umbel.serverapp import PoissonSampler, WeightedSampler


class Nodes:
    """What a sampler asks of a grid."""

    def __init__(self, count):
        self.count = count

    def wait_for_nodes(self, count, timeout_s):
        assert count <= self.count
        return range(self.count)


def draws(sampler, nodes, times=2000):
    return [sampler(Nodes(nodes), Seeds(5).child(i)) for i in range(times)]


def test_poisson_cohorts_have_the_mean_and_the_variance_of_a_binomial():
    sizes = np.array([len(cohort) for cohort in draws(PoissonSampler(0.3), 20)])
    assert abs(sizes.mean() - 6) < 0.2
    assert abs(sizes.var() - 4.2) < 0.5


@pytest.mark.parametrize(("rate", "size"), [(0.0, 0), (1.0, 20)])
def test_poisson_limits(rate, size):
    assert {len(cohort) for cohort in draws(PoissonSampler(rate), 20, 20)} == {size}


def test_weights_are_proportions():
    cohorts = draws(WeightedSampler(1, {0: 1.0, 1: 3.0, 3: 4.0}), 5)
    counts = np.bincount([node for (node,) in cohorts], minlength=5) / len(cohorts)
    np.testing.assert_allclose(counts, [1 / 8, 3 / 8, 0, 4 / 8, 0], atol=0.04)


def test_without_weights_all_nodes_are_alike_and_none_comes_twice():
    cohorts = draws(WeightedSampler(3, {}), 5)
    assert all(len(set(cohort)) == 3 and cohort == sorted(cohort) for cohort in cohorts)
    counts = np.bincount(np.ravel(cohorts)) / len(cohorts)
    np.testing.assert_allclose(counts, 0.6, atol=0.04)


def test_the_same_stream_gives_the_same_cohort():
    sampler = WeightedSampler(3, {node: node + 1.0 for node in range(9)})
    assert draws(sampler, 9, 5) == draws(sampler, 9, 5)


def test_too_few_nodes_with_a_weight():
    with pytest.raises(NotEnoughNodes, match="1 have a positive weight"):
        WeightedSampler(2, {0: 1.0, 1: 0.0})(Nodes(5), Seeds(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PoissonSampler(1.5),
        lambda: WeightedSampler(0, {}),
        lambda: WeightedSampler(1, {0: -1.0}),
        lambda: WeightedSampler(1, {0: float("nan")}),
    ],
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()
