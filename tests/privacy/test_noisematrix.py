"""Correlated noise against dense matrix algebra and against every pattern of participation."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.privacy import BandedMatrix, MinSeparation, TreeAggregation

MATRICES = [
    BandedMatrix(1, 1),
    BandedMatrix(9, 1),
    BandedMatrix(10, 3),
    BandedMatrix(9, 9),
    TreeAggregation(1),
    TreeAggregation(8),
    TreeAggregation(10),
    TreeAggregation(11, restart_every=4),
    TreeAggregation(8, restart_every=5),
]
PARTICIPATIONS = [
    MinSeparation(1),
    MinSeparation(2),
    MinSeparation(3),
    MinSeparation(4, times=2),
    MinSeparation(5),
    MinSeparation(100),
]


def factor(matrix):
    """Return C as the papers define it, its rows in the order in which a stream draws."""
    n = matrix.rounds
    if isinstance(matrix, BandedMatrix):
        column = np.zeros(n)
        column[: matrix.bands] = matrix.coefficients
        return np.array([[column[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)])
    span, rows = matrix.restart_every or n, []
    for t in range(1, n + 1):
        local = (t - 1) % span + 1
        for height in range((local & -local).bit_length()):
            rows.append([float(t - 2**height < j + 1 <= t) for j in range(n)])
    return np.array(rows)


def mixing(matrix):
    """Return what the stream multiplies the independent noise with, found by unit vectors."""
    count, stream, drawn = len(factor(matrix)), matrix.stream(), iter(range(10**6))

    def draw(place):
        unit = np.zeros(count)
        unit[next(drawn)] = 1.0
        return {"w": unit}

    return np.array([stream.step(draw)["w"] for _ in range(matrix.rounds)])


def patterns(rounds, participation):
    for times in range(1, participation.most(rounds) + 1):
        for chosen in combinations(range(rounds), times):
            if all(b - a >= participation.separation for a, b in pairwise(chosen)):
                yield list(chosen)


def worst(matrix, participation):
    """Return the sensitivity by its definition; C has no negative entry, so updates are equal."""
    c = factor(matrix)
    return max(
        np.linalg.norm(c[:, chosen].sum(axis=1)) for chosen in patterns(len(c.T), participation)
    )


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_the_noise_is_taken_away_by_the_factor(matrix):
    # x + W z with W C = 1 is W (C x + z): nothing but the Gaussian mechanism C x + z is used.
    np.testing.assert_allclose(mixing(matrix) @ factor(matrix), np.eye(matrix.rounds), atol=1e-12)


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_variances_are_those_of_prefix_sums(matrix):
    sums = np.tril(np.ones((matrix.rounds, matrix.rounds))) @ mixing(matrix)
    np.testing.assert_allclose(matrix.variances(), (sums**2).sum(axis=1))


@pytest.mark.parametrize("bands", [1, 2, 5, 16])
def test_a_banded_stream_is_a_solve(bands):
    matrix = BandedMatrix(16, bands)
    z = np.random.default_rng(0).normal(size=(16, 3))
    stream, rows = matrix.stream(), iter(z.copy())
    noise = [stream.step(lambda _: {"w": next(rows)})["w"] for _ in range(16)]
    np.testing.assert_allclose(noise, np.linalg.solve(factor(matrix), z), atol=1e-12)


def test_a_tree_is_at_least_as_good_as_blocks_without_their_halves():
    blocks = np.array([bin(t).count("1") for t in range(1, 33)])
    variances = TreeAggregation(32).variances()
    assert (variances <= blocks).all()
    assert variances[31] == pytest.approx(32 / 63)  # Honaker: 2^h / (2^(h+1) - 1)


@pytest.mark.parametrize("participation", PARTICIPATIONS, ids=str)
@pytest.mark.parametrize("matrix", [m for m in MATRICES if isinstance(m, BandedMatrix)], ids=repr)
def test_banded_sensitivities_are_exact(matrix, participation):
    assert matrix.sensitivity(participation) == pytest.approx(worst(matrix, participation))


@pytest.mark.parametrize("participation", PARTICIPATIONS, ids=str)
@pytest.mark.parametrize(
    "matrix", [m for m in MATRICES if isinstance(m, TreeAggregation)], ids=repr
)
def test_tree_sensitivities_are_bounds_and_exact_for_powers_of_two(matrix, participation):
    bound, exact = matrix.sensitivity(participation), worst(matrix, participation)
    assert exact - 1e-9 <= bound <= 1.25 * exact
    if participation.separation in (1, 2, 4, 100) and matrix.rounds in (1, 8):
        assert bound == pytest.approx(exact)


def test_separation_by_the_bands_makes_columns_orthogonal():
    matrix = BandedMatrix(40, 5)
    once = matrix.sensitivity(MinSeparation(40))
    assert once == pytest.approx(np.linalg.norm(matrix.coefficients))
    assert matrix.sensitivity(MinSeparation(5, times=7)) == pytest.approx(np.sqrt(7) * once)
    # The last of eight has all its bands as well: 7 * 5 + 5 = 40.
    assert matrix.sensitivity(MinSeparation(5)) == pytest.approx(np.sqrt(8) * once)
    assert matrix.sensitivity(MinSeparation(4, times=7)) > np.sqrt(7) * once


@pytest.mark.parametrize("participation", PARTICIPATIONS, ids=str)
@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_a_round_that_is_released_twice_costs_its_new_rows(matrix, participation):
    c = factor(matrix)
    ends = np.array([np.flatnonzero(row)[-1] for row in c])
    exact = max(
        np.linalg.norm(c[np.ix_(ends == t, chosen)].sum(axis=1))
        for t in range(matrix.rounds)
        for chosen in patterns(matrix.rounds, participation)
    )
    assert exact <= matrix.repeat_sensitivity(participation) + 1e-12


@pytest.mark.parametrize(("rounds", "bands"), [(2, 2), (16, 4), (40, 40), (64, 8)])
def test_coefficients_are_a_minimum(rounds, bands):
    def loss(column):
        c = np.zeros(rounds)
        c[:bands] = column
        dense = np.array(
            [[c[i - j] if i >= j else 0.0 for j in range(rounds)] for i in range(rounds)]
        )
        sums = np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(dense)
        return (sums**2).sum() * (column @ column)

    best = np.array(BandedMatrix(rounds, bands).coefficients)
    chance = np.random.default_rng(1)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(10):
            near = best.copy()
            near[1:] += size * chance.normal(size=bands - 1)
            assert loss(near) > loss(best) * (1 - 1e-12)
    root = np.cumprod([1.0] + [(2 * i - 1) / (2 * i) for i in range(1, bands)])
    assert loss(best) < loss(root)


def test_coefficients_fall_and_are_not_negative():
    for rounds in (*range(1, 14), 100):
        for bands in range(1, min(rounds, 30) + 1):
            column = np.array(BandedMatrix(rounds, bands).coefficients)
            assert column[0] == 1
            assert (column >= 0).all()
            assert (np.diff(column) <= 0).all()


@pytest.mark.parametrize(
    ("rounds", "participation"),
    [(128, MinSeparation(128)), (128, MinSeparation(32)), (1000, MinSeparation(100))],
    ids=str,
)
def test_at_equal_privacy_banded_beats_trees_and_trees_beat_independent_noise(
    rounds, participation
):
    def error(matrix):
        return matrix.sensitivity(participation) ** 2 * matrix.variances().mean()

    banded = error(BandedMatrix(rounds, 32))
    trees = min(
        error(TreeAggregation(rounds)), error(TreeAggregation(rounds, participation.separation))
    )
    assert banded < 0.6 * trees
    assert trees < 0.6 * error(BandedMatrix(rounds, 1))


def test_more_bands_are_no_worse_up_to_the_separation():
    participation = MinSeparation(16)
    errors = [
        matrix.sensitivity(participation) ** 2 * matrix.variances().mean()
        for matrix in (BandedMatrix(128, bands) for bands in (1, 2, 4, 8, 16))
    ]
    assert errors == sorted(errors, reverse=True)


def test_most_is_what_there_is_room_for():
    assert MinSeparation(3).most(7) == 3
    assert MinSeparation(3, times=2).most(7) == 2
    assert MinSeparation(10).most(7) == 1
    assert [str(MinSeparation(1)), str(MinSeparation(8))] == [
        "in every round",
        "at most every 8 rounds",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BandedMatrix(3, 4),
        lambda: BandedMatrix(0, 1),
        lambda: BandedMatrix(3, 0),
        lambda: TreeAggregation(0),
        lambda: TreeAggregation(4, restart_every=0),
        lambda: MinSeparation(0),
        lambda: MinSeparation(2, times=0),
        lambda: MinSeparation(2.5),
    ],
)
def test_parameters_out_of_range(make):
    with pytest.raises(ConfigError):
        make()
