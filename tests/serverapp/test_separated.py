import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughNodes, Seeds
from umbel.serverapp import MinSeparationSampler, Run


class Nodes:
    """What a sampler asks of a grid."""

    def __init__(self, nodes, seed=3):
        self.nodes = list(nodes)
        self.run = Run(seeds=Seeds(seed))

    def wait_for_nodes(self, count, timeout_s):
        if len(self.nodes) < count:
            raise NotEnoughNodes("too few")
        return self.nodes

    def cohorts(self, sampler, rounds):
        for server_round in rounds:
            self.run.server_round = server_round
            seeds = self.run.seeds.child("round", server_round)
            yield server_round, sampler(self, seeds)


def closest(cohorts):
    """Return the least distance between two rounds of one node."""
    last, least = {}, np.inf
    for server_round, cohort in cohorts:
        for node in cohort:
            least = min(least, server_round - last.get(node, -np.inf))
            last[node] = server_round
    return least


@pytest.mark.parametrize("size", [None, 1, 3])
def test_nobody_comes_back_sooner(size):
    assert closest(Nodes(range(40)).cohorts(MinSeparationSampler(7, size), range(1, 60))) >= 7


def test_the_separation_holds_while_nodes_come_and_go():
    grid, chance = Nodes([]), Seeds(0).numpy()

    def changing():
        for server_round in range(1, 80):
            grid.nodes = chance.permutation(50)[: chance.integers(1, 50)].tolist()
            yield from grid.cohorts(MinSeparationSampler(6), [server_round])

    assert closest(changing()) >= 6


def test_everybody_has_a_turn_and_turns_are_even():
    cohorts = dict(Nodes(range(30)).cohorts(MinSeparationSampler(5), range(1, 6)))
    assert sorted(node for cohort in cohorts.values() for node in cohort) == list(range(30))
    assert {len(cohort) for cohort in cohorts.values()} == {6}


def test_sizes_bound_the_cohort_and_chance_fills_it():
    sampler = MinSeparationSampler(5, size=2)
    cohorts = [cohort for _, cohort in Nodes(range(50)).cohorts(sampler, range(1, 400, 5))]
    assert {len(cohort) for cohort in cohorts} == {2}
    assert len({node for cohort in cohorts for node in cohort}) == 10  # all whose turn it is


def test_another_process_chooses_the_same_from_the_middle_on():
    sampler = MinSeparationSampler(4, size=3)
    whole = dict(Nodes(range(33)).cohorts(sampler, range(1, 20)))
    assert dict(Nodes(range(33)).cohorts(sampler, range(9, 20))) == {
        t: cohort for t, cohort in whole.items() if t >= 9
    }
    assert dict(Nodes(range(33), seed=4).cohorts(sampler, range(1, 20))) != whole


def test_a_separation_of_one_is_everybody():
    cohorts = Nodes(range(5)).cohorts(MinSeparationSampler(1), range(1, 4))
    assert all(cohort == [0, 1, 2, 3, 4] for _, cohort in cohorts)


def test_too_few_nodes():
    with pytest.raises(NotEnoughNodes):
        list(Nodes(range(2)).cohorts(MinSeparationSampler(2, min_available=3), [1]))


@pytest.mark.parametrize(
    "options", [{"separation": 0}, {"separation": 2.5}, {"size": 0}, {"min_available": 0}]
)
def test_parameters_out_of_range(options):
    with pytest.raises(ConfigError):
        MinSeparationSampler(**{"separation": 2, **options})
