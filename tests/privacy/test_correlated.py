import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.privacy import BandedMatrix, CorrelatedNoise, NoiseSource, TreeAggregation

SECRET = bytes(range(32))
LIKE = {"w": np.zeros((2, 3), np.float32), "b": np.zeros((), np.float64)}
MATRICES = [BandedMatrix(12, 4), TreeAggregation(12), TreeAggregation(12, restart_every=4)]


def noise_of(matrix, sigma=1.0, **options):
    source = NoiseSource(SECRET, seeded=True)
    return CorrelatedNoise(matrix, sigma, source, "test", **options)


def bits(noise):
    return {name: values.tobytes() for name, values in noise.items()}


def salt(server_round, history="a"):
    return f"{history}{server_round}".encode()


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_a_resume_in_the_middle_gives_the_same_bits(matrix):
    noise = noise_of(matrix)
    rounds = range(1, matrix.rounds + 1)
    whole = [bits(noise.for_round(t, LIKE, salt(t))) for t in rounds]
    for begin in (2, 7, 12):
        resumed = noise_of(matrix, salts={t: salt(t) for t in range(1, begin)})
        rest = [bits(resumed.for_round(t, LIKE, salt(t))) for t in rounds if t >= begin]
        assert rest == whole[begin - 1 :]


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_a_round_again_is_the_same_noise_or_with_another_salt_another(matrix):
    noise = noise_of(matrix)
    first = bits(noise.for_round(5, LIKE, salt(5)))
    assert bits(noise.for_round(5, LIKE, salt(5))) == first
    other = bits(noise.for_round(5, LIKE, salt(5, "b")))
    assert all(other[name] != first[name] for name in LIKE)
    # What follows is correlated with the second release.
    after = noise_of(matrix, salts={5: salt(5, "b")}).for_round(6, LIKE, salt(6))
    assert bits(noise.for_round(6, LIKE, salt(6))) == bits(after)


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_types_and_shapes_are_kept_and_noise_is_not_shared(matrix):
    noise = noise_of(matrix, sigma=2.0)
    for t in range(1, 9):
        added = noise.for_round(t, LIKE)
        assert {k: (v.shape, v.dtype) for k, v in added.items()} == {
            k: (v.shape, v.dtype) for k, v in LIKE.items()
        }


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_prefix_sums_have_the_variance_that_the_matrix_tells(matrix):
    noise, like = noise_of(matrix, sigma=0.5), {"w": np.zeros(4000)}
    total = np.zeros(4000)
    for t, variance in enumerate(matrix.variances(), 1):
        total += noise.for_round(t, like)["w"]
        # The variance of 4000 numbers is known to 2.2 percent; five times that is allowed for.
        assert total.var() == pytest.approx(0.25 * variance, rel=0.11)


def test_the_noise_solves_the_system_of_what_was_drawn():
    matrix, source = BandedMatrix(6, 3), NoiseSource(SECRET, seeded=True)
    like = {"w": np.zeros(5)}
    z = [source.gaussian(like, 1.0, "test", t, 0, b"")["w"] for t in range(1, 7)]
    noise = noise_of(matrix)
    added = [noise.for_round(t, like)["w"] for t in range(1, 7)]
    for t in range(6):
        row = sum(c * added[t - i] for i, c in enumerate(matrix.coefficients) if i <= t)
        np.testing.assert_allclose(row, z[t], atol=1e-12)


@pytest.mark.parametrize("server_round", [0, 13])
def test_rounds_that_the_matrix_does_not_cover(server_round):
    with pytest.raises(ConfigError, match="rounds 1 to 12"):
        noise_of(BandedMatrix(12, 4)).for_round(server_round, LIKE)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_no_noise_is_refused(sigma):
    with pytest.raises(ConfigError):
        noise_of(BandedMatrix(12, 4), sigma)
