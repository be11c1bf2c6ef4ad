"""The ring, its neighbourhoods, and the degree that keeps the promises."""

import math
from fractions import Fraction
from itertools import combinations

import pytest

from umbel.base import ConfigError
from umbel.secagg import GraphChoice, choose_degree
from umbel.secagg.graph import Graph

ROSTER = b"hash of a roster"


@pytest.mark.parametrize("degree", [None, 2, 4, 8, 20])
def test_neighbours_are_mutual_and_as_many_as_asked(degree):
    nodes = [3, 5, 8, 13, 21, 34, 55, 89, 144]
    graph = Graph(nodes, degree, ROSTER)
    expected = 8 if degree is None else min(degree, 8)
    for node in nodes:
        neighbours = graph.neighbours(node)
        assert len(set(neighbours)) == expected
        assert list(neighbours) == sorted(neighbours)
        assert node not in neighbours
        assert graph.closed(node) == tuple(sorted((node, *neighbours)))
        assert all(node in graph.neighbours(other) for other in neighbours)
    assert graph.size == expected + 1


def test_the_ring_follows_from_the_roster():
    nodes = list(range(50))
    graph = Graph(nodes, 6, ROSTER)
    again = Graph(nodes[::-1], 6, ROSTER)
    other = Graph(nodes, 6, b"hash of another")
    rings = [[g.neighbours(node) for node in nodes] for g in (graph, again, other)]
    assert rings[0] == rings[1] != rings[2]


@pytest.mark.parametrize("degree", [2, 4])
def test_groups_against_a_search(degree):
    nodes = list(range(9))
    graph = Graph(nodes, degree, ROSTER)

    def reached(present):
        seen, todo = set(), [min(present)]
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += [n for n in graph.neighbours(node) if n in present]
        return seen

    for count in range(1, 10):
        for present in combinations(nodes, count):
            left, sizes = set(present), []
            while left:
                sizes.append(len(reached(left)))
                left -= reached(left)
            assert graph.groups(present) == sorted(sizes, reverse=True)


def tail(population, marked, drawn, least):
    """P[at least so many of those drawn are marked], counted with whole numbers."""
    ways = sum(
        math.comb(marked, i) * math.comb(population - marked, drawn - i)
        for i in range(max(least, 0), drawn + 1)
        if drawn - i <= population - marked
    )
    return Fraction(ways, math.comb(population, drawn))


def keeps(clients, bad, lost, degree, threshold, sigma, eta, active):
    """Whether the promises hold, by the definition."""
    size = degree + 1
    open_from = 2 * threshold - size if active else threshold
    secrecy = tail(clients - 1, bad, degree, open_from)
    recovery = tail(clients - 1, lost, degree, degree - threshold + 1)
    half = degree // 2
    apart = Fraction(math.comb(bad + lost, half), math.comb(clients, half))
    return (
        clients * secrecy <= Fraction(1, 2**sigma)
        and clients * apart <= Fraction(1, 2**sigma)
        and clients * recovery <= Fraction(1, 2**eta)
    )


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize(
    ("clients", "corrupt", "dropout", "sigma", "eta"),
    [
        (60, 0.1, 0.1, 20, 15),
        (100, 0.05, 0.1, 40, 30),
        (100, 0.0, 0.2, 30, 20),
        (80, 0.2, 0, 20, 9),
    ],
)
def test_the_degree_is_the_smallest_that_keeps_the_promises(
    clients, corrupt, dropout, sigma, eta, active
):
    choice = choose_degree(
        clients, corrupt=corrupt, dropout=dropout, sigma=sigma, eta=eta, active=active
    )
    bad, lost = round(corrupt * clients), round(dropout * clients)
    rest = (sigma, eta, active)
    assert keeps(clients, bad, lost, choice.degree, choice.threshold, *rest)
    # A lower threshold would not keep secrets, and no smaller degree has a threshold at all.
    if choice.threshold > 2:
        assert not keeps(clients, bad, lost, choice.degree, choice.threshold - 1, *rest)
    for degree in range(2, choice.degree, 2):
        for threshold in range(2, degree + 2):
            assert not keeps(clients, bad, lost, degree, threshold, *rest)


@pytest.mark.parametrize(("active", "sigma"), [(True, 80), (False, 40)])
def test_a_server_that_lies_can_try_many_rings(active, sigma):
    # It computes the ring of as many rosters as it has time for, 2**40 are few, and shows the best.
    assumed = {"corrupt": 0.05, "dropout": 0.05, "active": active}
    assert choose_degree(1000, **assumed) == choose_degree(1000, sigma=sigma, **assumed)
    assert choose_degree(1000, **assumed) != choose_degree(1000, sigma=120 - sigma, **assumed)


def test_a_larger_cohort_needs_little_more_degree():
    assumed = {"corrupt": 0.1, "dropout": 0.1, "sigma": 40}
    degrees = [choose_degree(n, **assumed).degree for n in (200, 2000, 20_000)]
    assert degrees == sorted(degrees)
    assert degrees[-1] < 3 * degrees[0]


def test_a_small_cohort_gets_the_complete_graph():
    assert choose_degree(8, corrupt=0.1, dropout=0.25) == GraphChoice(None, 5)
    assert choose_degree(3, corrupt=0, dropout=0) == GraphChoice(None, 2)
    assert choose_degree(8, corrupt=0.25, dropout=0.25, active=False) == GraphChoice(None, 4)
    # Whoever answers to the end, two of them are honest.
    assert choose_degree(5, corrupt=0.6, dropout=0, active=False) == GraphChoice(None, 5)


@pytest.mark.parametrize(
    ("clients", "corrupt", "dropout"),
    [(10, 0.5, 0.4), (5, 0.8, 0), (100, 0.3, 0.4), (1, 0, 0), (10, 1.0, 0), (10, 0, -0.1)],
)
def test_what_no_graph_can_promise_is_refused(clients, corrupt, dropout):
    with pytest.raises(ConfigError):
        choose_degree(clients, corrupt=corrupt, dropout=dropout)
