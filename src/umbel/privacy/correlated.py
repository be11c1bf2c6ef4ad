"""Correlated noise of a run, round by round, made again from its keys."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from umbel.base import ConfigError
from umbel.privacy.checks import positive
from umbel.privacy.noise import NoiseSource
from umbel.privacy.noisematrix import NoiseMatrix, NoiseStream
from umbel.updates import Arrays


class CorrelatedNoise:
    """What is added to each round's update, so that the sums of rounds bear little noise.

    Round ``t`` gets row ``t`` of ``C^-1 z``. The independent noise ``z`` of a round follows from
    the source's secret, the round and its salt, so that all there is to keep between processes is
    the salts. After a restart the first call makes the noise of all rounds before again, with the
    same bits; from then on a call costs one round.

    Parameters
    ----------
    matrix : NoiseMatrix
        ``BandedMatrix`` or ``TreeAggregation``.
    sigma : float
        The standard deviation of ``z``. For a noise multiplier ``m`` it is ``m`` times the bound on
        the norm of one unit's update times ``matrix.sensitivity(participation)``: then all rounds
        together are one Gaussian mechanism of multiplier ``m``.
    source : NoiseSource
        Where chance comes from.
    *names : str or int
        What the noise is for; other names, other noise.
    salts : mapping of int to bytes
        The salts of the rounds that another process has released, to go on after it.

    Raises
    ------
    ConfigError
        ``sigma`` is not a finite number above zero.

    Examples
    --------
    >>> import numpy as np
    >>> from umbel.privacy import BandedMatrix, NoiseSource
    >>> source, model = NoiseSource(bytes(32), seeded=True), {"w": np.zeros(3, np.float32)}
    >>> noise = CorrelatedNoise(BandedMatrix(rounds=10, bands=3), 1.0, source, "example")
    >>> parts = [noise.for_round(t, model)["w"] for t in (1, 2)]
    >>> resumed = CorrelatedNoise(BandedMatrix(rounds=10, bands=3), 1.0, source, "example")
    >>> bool((resumed.for_round(2, model)["w"] == parts[1]).all())
    True
    """

    def __init__(
        self,
        matrix: NoiseMatrix,
        sigma: float,
        source: NoiseSource,
        *names: str | int,
        salts: Mapping[int, bytes] = MappingProxyType({}),
    ) -> None:
        self.matrix = matrix
        self.sigma = positive(sigma, "sigma")
        self._source = source
        self._names = names
        self._salts = dict(salts)
        self._stream: NoiseStream | None = None
        self._round = 0

    def for_round(self, server_round: int, like: Arrays, salt: bytes = b"") -> Arrays:
        """Return the noise of a round; it is not to be changed.

        Rounds may be left out, but then bear their part of the noise of later ones all the same.

        Parameters
        ----------
        server_round : int
            From 1.
        like : mapping of str to ndarray
            Names, shapes and types of the update, the same in every round.
        salt : bytes
            What sets this release of the round apart from another one with other replies, for
            instance a keyed hash of their sum: the same noise must not hide two different sums. It
            counts in all later rounds.

        Raises
        ------
        ConfigError
            The matrix does not cover the round.
        """
        if not 1 <= server_round <= self.matrix.rounds:
            raise ConfigError(
                f"the noise is made for rounds 1 to {self.matrix.rounds}",
                hint="give the matrix as many rounds as the run has",
                round=server_round,
            )
        self._salts = {t: kept for t, kept in self._salts.items() if t < server_round}
        self._salts[server_round] = salt
        if self._stream is None or self._round >= server_round:
            self._stream, self._round = self.matrix.stream(), 0
        while True:
            self._round += 1
            noise = self._step(self._stream, self._round, like)
            if self._round == server_round:
                return noise

    def _step(self, stream: NoiseStream, server_round: int, like: Arrays) -> Arrays:
        salt = self._salts.get(server_round, b"")

        def draw(place: int) -> dict[str, npt.NDArray[Any]]:
            names = (*self._names, server_round, place, salt)
            return self._source.gaussian(like, self.sigma, *names)

        return stream.step(draw)
