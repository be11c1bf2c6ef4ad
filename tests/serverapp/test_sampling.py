import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel
from umbel.base import ConfigError, NotEnoughNodes, Seeds
from umbel.serverapp import FractionSampler, ServerApp


def on_grid(nodes, function):
    """Call a function with a real grid."""
    app = ServerApp()
    app.main()(lambda grid, context: function(grid))
    return umbel.run_simulation(app, umbel.ClientApp(), nodes, "inprocess", seed=0)


@given(st.integers(1, 100_000), st.floats(0, 1), st.integers(0, 50))
def test_the_size_is_a_part_of_the_nodes_or_the_minimum(nodes, fraction, least):
    size = FractionSampler(fraction, least).size(nodes)
    if fraction == 0:
        assert size == 0
    else:
        assert max(least, 1) <= size
        assert size in (max(least, 1), int(nodes * fraction), int(nodes * fraction) + 1)


@pytest.mark.parametrize(
    ("fraction", "nodes", "size"), [(0.29, 100, 29), (0.1, 9, 1), (0.35, 10, 3), (1.0, 7, 7)]
)
def test_the_size_is_what_the_product_says(fraction, nodes, size):
    assert FractionSampler(fraction, min_nodes=0).size(nodes) == size


def test_the_choice_is_that_of_the_seed():
    def choose(grid):
        sampler = FractionSampler(0.2)
        return [sampler(grid, Seeds(seed).child("round", r)) for seed in (1, 1, 2) for r in (1, 2)]

    first, second, again, _, other, _ = on_grid(50, choose)
    assert first == again
    assert len({tuple(first), tuple(second), tuple(other)}) == 3
    assert first == sorted(set(first))


def test_every_node_is_as_likely():
    def count(grid):
        chosen = [FractionSampler(0.5)(grid, Seeds(seed)) for seed in range(400)]
        return [sum(node in nodes for nodes in chosen) for node in range(6)]

    assert all(abs(n - 200) < 60 for n in on_grid(6, count))


@pytest.mark.parametrize("sampler", [FractionSampler(0.1, min_nodes=4), FractionSampler(0.1, 1, 4)])
def test_too_few_nodes(sampler):
    with pytest.raises(NotEnoughNodes, match="4 nodes are needed and 3 exist"):
        on_grid(3, lambda grid: sampler(grid, Seeds(0)))


def test_nobody_is_waited_for_when_nobody_is_wanted():
    assert on_grid(1, lambda grid: FractionSampler(0.0, 9, 9)(grid, Seeds(0))) == []


@pytest.mark.parametrize(
    "options",
    [
        {"fraction": 1.1},
        {"fraction": float("nan")},
        {"fraction": "0.1"},
        {"min_nodes": -1},
        {"min_nodes": "2"},
        {"min_available": 1.5},
    ],
)
def test_parameters_out_of_range(options):
    with pytest.raises(ConfigError):
        FractionSampler(**options)
