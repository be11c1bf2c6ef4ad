"""Noise for named arrays, from a secret: the same names give the same noise, others independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from umbel.base import ConfigError, KeyStream, derive_key, for_each
from umbel.privacy.checks import positive
from umbel.privacy.discrete import discrete_gaussian
from umbel.privacy.gaussian import fill_gaussian
from umbel.privacy.laplace import fill_laplace
from umbel.privacy.skellam import skellam
from umbel.updates import Arrays, NDArray, is_whole, sum_dtype

Randomness = Literal["cryptographic", "seeded: simulation only"]


class NoiseSource:
    """Draws noise that nobody can foretell who does not know the secret.

    Each array's noise comes from a key of its own, derived from the secret, the mechanism, the
    names given and the array's name. So noise can be drawn again after a crash, the order of the
    arrays does not matter, and nothing else that is drawn shifts it. The same names must never
    serve two releases: their difference would have no noise.

    Parameters
    ----------
    secret : bytes
        At least 16 bytes.
    seeded : bool
        Whether the secret follows from a seed that others may know. Then the noise hides nothing,
        and ``randomness`` says so in the statement of privacy.

    Attributes
    ----------
    randomness : {"cryptographic", "seeded: simulation only"}
        What the statement says.

    See Also
    --------
    umbel.base.KeyStream : the stream of bits behind it.

    Examples
    --------
    >>> source = NoiseSource(bytes(32), seeded=True)
    >>> model = {"w": np.zeros((2, 3), np.float32)}
    >>> noise = source.gaussian(model, 0.5, "round", 1)
    >>> noise["w"].shape, noise["w"].dtype, source.randomness
    ((2, 3), dtype('float32'), 'seeded: simulation only')
    >>> bool((noise["w"] == source.gaussian(model, 0.5, "round", 1)["w"]).all())
    True
    >>> bool((noise["w"] == source.gaussian(model, 0.5, "round", 2)["w"]).any())
    False
    """

    __slots__ = ("_secret", "randomness")

    def __init__(self, secret: bytes, *, seeded: bool) -> None:
        derive_key(secret)  # is it one?
        self._secret = secret
        self.randomness: Randomness = "seeded: simulation only" if seeded else "cryptographic"

    def gaussian(self, like: Arrays, sigma: float, *names: str | int | bytes) -> dict[str, NDArray]:
        """Return Gaussian noise of the standard deviation ``sigma`` for arrays like these.

        Parameters
        ----------
        like : mapping of str to ndarray
            Shapes, and dtypes: noise has the dtype that sums of such arrays have. The real and the
            imaginary parts of complex arrays get noise each.
        sigma : float
            At least 0.
        *names : str, int or bytes
            What the noise is for.

        Raises
        ------
        ConfigError
            ``sigma`` is not such a number, or an array is one of whole numbers.
        """
        return self._floats(fill_gaussian, like, sigma, ("gaussian", *names))

    def laplace(self, like: Arrays, scale: float, *names: str | int | bytes) -> dict[str, NDArray]:
        """Return Laplace noise of this scale for arrays like these; otherwise like ``gaussian``."""
        return self._floats(fill_laplace, like, scale, ("laplace", *names))

    def discrete_gaussian(
        self, like: Arrays, sigma: float, *names: str | int | bytes
    ) -> dict[str, NDArray]:
        """Return discrete Gaussian noise, int64, in the shapes of these arrays.

        Examples
        --------
        >>> source = NoiseSource(bytes(32), seeded=True)
        >>> source.discrete_gaussian({"w": np.zeros(4)}, 2.0, "round", 1)["w"].tolist()
        [-2, 1, 3, 1]
        """
        return self._integers(discrete_gaussian, like, sigma, ("discrete gaussian", *names))

    def skellam(
        self, like: Arrays, variance: float, *names: str | int | bytes
    ) -> dict[str, NDArray]:
        """Return Skellam noise, int64, in the shapes of these arrays."""
        return self._integers(skellam, like, variance, ("skellam", *names))

    def _floats(
        self,
        fill: Callable[[NDArray, float, KeyStream], None],
        like: Arrays,
        size: float,
        names: tuple[str | int | bytes, ...],
    ) -> dict[str, NDArray]:
        if size != 0:
            positive(size, "the size of the noise")
        noise: dict[str, NDArray] = {}
        for key, value in like.items():
            if is_whole(value.dtype):
                raise ConfigError(
                    f"an array of {value.dtype} cannot take noise of fractions",
                    hint="leave whole numbers out of the update, or draw noise of whole numbers",
                    key=key,
                )
            noise[key] = np.zeros(value.shape, sum_dtype(value.dtype))

        def draw(key: str) -> None:
            flat = noise[key].reshape(-1)
            parts = flat.view(flat.real.dtype)
            fill(parts, size, KeyStream(derive_key(self._secret, *names, key)))

        if size:
            for_each(draw, noise, sum(value.nbytes for value in noise.values()))
        return noise

    def _integers(
        self,
        sample: Callable[[int, float, KeyStream], NDArray],
        like: Arrays,
        size: float,
        names: tuple[str | int | bytes, ...],
    ) -> dict[str, NDArray]:
        noise: dict[str, NDArray] = {}

        def draw(key: str) -> None:
            stream = KeyStream(derive_key(self._secret, *names, key))
            noise[key] = sample(like[key].size, size, stream).reshape(like[key].shape)

        for_each(draw, like, 8 * sum(value.size for value in like.values()))
        return {key: noise[key] for key in like}
