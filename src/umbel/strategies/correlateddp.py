"""Wrapper that gives a strategy differential privacy with noise that rounds share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Unpack

from umbel.base import ConfigError
from umbel.privacy import (
    AdaptiveBound,
    CorrelatedEvent,
    CorrelatedNoise,
    GaussianEvent,
    MinSeparation,
    NoAmplification,
    NoiseMatrix,
    NoiseSource,
    PerLayer,
    Sampling,
)
from umbel.records import ArrayRecord, Message, MessageType, MetricRecord
from umbel.serverapp import MinSeparationSampler, Run, Strategy
from umbel.strategies.centraldp import CentralDP, CentralDPOptions, Key
from umbel.strategies.drawing import SameNodes
from umbel.updates import Arrays


class CorrelatedDP(CentralDP):
    """A strategy whose models are differentially private; :func:`with_correlated_dp` makes it.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    matrix, clipping, **options
        See :func:`with_correlated_dp`.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        matrix: NoiseMatrix,
        clipping: float | PerLayer,
        **options: Unpack[CentralDPOptions],
    ) -> None:
        super().__init__(strategy, clipping=clipping, **options)
        if isinstance(self.clipping, AdaptiveBound):
            raise ConfigError(
                "a bound that changes between rounds does not go with noise that they share",
                hint="give clipping a number: what AdaptiveBound came to on public data, say",
            )
        if not isinstance(matrix, NoiseMatrix):
            raise ConfigError(
                f"matrix is a {type(matrix).__name__}, not a NoiseMatrix",
                hint="BandedMatrix(rounds, bands) or TreeAggregation(rounds)",
            )
        self.matrix, self.rounds_max = matrix, matrix.rounds
        self._series: tuple[Run, int, _Series] | None = None

    def without_cohort(self, server_round: int) -> tuple[ArrayRecord | None, MetricRecord | None]:
        # Later rounds take back some of this round's noise, so it is to be there.
        folds = self.train_aggregator(server_round)
        return self.finish_train(server_round, folds.finish(folds.zero()))

    @property
    def participation(self) -> MinSeparation:
        """How often one client takes part at most: as the sampler has it, or in every round."""
        sampler = self.inner.sampler(MessageType.TRAIN)
        return MinSeparation(sampler.separation if isinstance(sampler, MinSeparationSampler) else 1)

    def _drawn(self, messages: Sequence[Message], grid: SameNodes, server_round: int) -> Sampling:
        super()._drawn(messages, grid, server_round)
        sampler = self.inner.sampler(MessageType.TRAIN)
        if isinstance(sampler, MinSeparationSampler):
            now = server_round % sampler.separation
            for message in messages:
                node = message.metadata.dst_node_id
                if sampler.turn(node, grid.run.seeds) != now:
                    raise ConfigError(
                        f"node {node} gets a message though it is not its turn, so nodes do not "
                        "rest as long as privacy is accounted with",
                        hint="leave the choice to the sampler alone",
                        round=server_round,
                    )
        return NoAmplification()

    def _check(self, run: Run) -> None:
        if not self._series_of(run).released:
            super()._check(run)

    def _event(self) -> CorrelatedEvent:
        participation, rounds = self.participation, self.matrix.rounds
        sensitivity = self.matrix.sensitivity(participation)
        multiplier = self.noise_multiplier * sensitivity
        return CorrelatedEvent(multiplier, sensitivity, rounds, str(participation))

    def _noise(self, run: Run, source: NoiseSource, key: Key, update: Arrays) -> Arrays:
        start, server_round, digest = key
        series, ledger = self._series_of(run), self._ledger_of(run)
        event, statement = self._event(), partial(self._statement, source.randomness)
        # The rounds together are one release.
        ledger.spend((start, "correlated"), event, statement)
        # A salt stands for all that the noise hides, now and in the rounds before.
        salt = sha256(series.before(server_round) + bytes.fromhex(digest)).digest()
        if series.is_another(server_round, salt):
            # A round that is released anew, after a crash, is one row more.
            row = self.matrix.repeat_sensitivity(self.participation)
            more = GaussianEvent(event.noise_multiplier / row)
            ledger.spend((start, server_round, salt.hex()), more, statement)
        run.emit("noise_added", start=start, round=server_round, salt=salt.hex())
        run.log.sync()
        noise = series.noise(self.matrix, self._noise_std() * event.sensitivity, source, start)
        series.note(server_round, salt)
        return noise.for_round(server_round, update, salt)

    def _series_of(self, run: Run) -> _Series:
        """Return what this call of ``start`` has released, also in processes before."""
        known = self._series
        if known is None or known[0] is not run or known[1] != run.start:
            known = self._series = (run, run.start, _Series(run))
        return known[2]

    def _mechanism(self) -> str:
        return (
            f"Gaussian, correlated over {self.matrix.rounds} rounds by {self.matrix!r}, each "
            f"client {self.participation}, {super()._mechanism().removeprefix('Gaussian, ')}"
        )


class _Series:
    """Which noise the rounds of one call of ``start`` were released with."""

    def __init__(self, run: Run) -> None:
        self.released: set[tuple[int, bytes]] = set()
        self._salts: dict[int, bytes] = {}
        self._noise: CorrelatedNoise | None = None
        for entry in run.log.entries():
            if entry.event == "noise_added" and entry.data["start"] == run.start:
                self.note(entry.data["round"], bytes.fromhex(entry.data["salt"]))

    def before(self, server_round: int) -> bytes:
        """Return the salt of the last round before this one."""
        rounds = [t for t in self._salts if t < server_round]
        return self._salts[max(rounds)] if rounds else b""

    def is_another(self, server_round: int, salt: bytes) -> bool:
        """Return whether this round has been released, but not with this salt."""
        known = {kept for t, kept in self.released if t == server_round}
        return bool(known) and salt not in known

    def note(self, server_round: int, salt: bytes) -> None:
        """Note a release; rounds after it are those of a past that was given up."""
        self.released.add((server_round, salt))
        self._salts = {t: kept for t, kept in self._salts.items() if t < server_round}
        self._salts[server_round] = salt

    def noise(
        self, matrix: NoiseMatrix, sigma: float, source: NoiseSource, start: int
    ) -> CorrelatedNoise:
        """Return the noise that goes on after the rounds so far."""
        if self._noise is None:
            self._noise = CorrelatedNoise(matrix, sigma, source, "update", start, salts=self._salts)
        return self._noise


def with_correlated_dp(
    strategy: Strategy,
    *,
    matrix: NoiseMatrix,
    clipping: float | PerLayer,
    **options: Unpack[CentralDPOptions],
) -> CorrelatedDP:
    """Return a strategy that does the same with models that hide what each client had.

    As :func:`with_central_dp`, but a round's noise takes back some of that of the rounds before, so
    that the model, which is the sum of all rounds, bears less of it: DP-FTRL with tree aggregation
    (Kairouz et al. 2021, arXiv:2103.00039) or banded matrix factorization (Choquette-Choo et al.
    2023, arXiv:2306.08153). It counts on no chance in who takes part, but on rest: with a
    ``MinSeparationSampler``, whose turns are checked, a client is accounted for once in
    ``separation`` rounds, and with any other sampler in every round.

    What is taken back is what the strategy's step adds up: use FedAvg, or an optimizer whose steps
    are sums of updates (momentum). With others the model is as private, and less accurate.

    Parameters
    ----------
    strategy : Strategy
        What to wrap, as for ``with_central_dp``.
    matrix : NoiseMatrix
        ``BandedMatrix(rounds, bands)``, best with as many bands as the separation or somewhat less,
        or ``TreeAggregation(rounds)``. It covers one call of ``start``.
    noise_multiplier : float
        The noise over what one client can do in all rounds together: they are one Gaussian
        mechanism with this multiplier, whatever the matrix and the number of rounds. A round's own
        noise is greater by the factor ``matrix.sensitivity(...)``. For a given ε it is
        ``umbel.privacy.gaussian_sigma(epsilon, delta, 1.0)``.
    clipping : float or PerLayer
        The bound on the L2 norm of an update.
    cohort, delta, epsilon_budget, accountant, release_metrics
        As for ``with_central_dp``. All of the privacy is spent before the first round.

    Raises
    ------
    ConfigError
        A parameter is out of its range, or nothing is known of what one client does to the outcome
        of the strategy. When it is started: for more rounds than the matrix has. In a round: nodes
        do not rest as they should.

    Examples
    --------
    >>> from umbel.privacy import BandedMatrix
    >>> from umbel.serverapp import MinSeparationSampler
    >>> from umbel.strategies import FedAvg
    >>> strategy = with_correlated_dp(
    ...     FedAvg(train_sampler=MinSeparationSampler(separation=20)),
    ...     matrix=BandedMatrix(rounds=100, bands=20),
    ...     noise_multiplier=1.0, clipping=0.5, cohort=50, delta=1e-5)
    >>> print(strategy.participation)
    at most every 20 rounds
    """
    return CorrelatedDP(strategy, matrix=matrix, clipping=clipping, **options)
