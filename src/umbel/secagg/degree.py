"""How many neighbours are enough: the smallest degree that keeps three promises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.base import ConfigError

Floats: TypeAlias = npt.NDArray[np.float64]

_SIGMA = 40.0
_GRINDING = 40.0
"""Log2 of the rosters that a server may try; each costs it a hash for every client."""


@dataclass(frozen=True)
class GraphChoice:
    """A degree and a threshold that go together.

    Parameters
    ----------
    degree : int or None
        Neighbours of each client; None for all others.
    threshold : int
        Members of a neighbourhood, the client itself among them, that open its secrets.
    """

    degree: int | None
    threshold: int


def choose_degree(
    clients: int,
    *,
    corrupt: float,
    dropout: float,
    sigma: float | None = None,
    eta: float = 30.0,
    active: bool = True,
) -> GraphChoice:
    """Return the smallest degree that is secure and survives dropouts, with its threshold.

    Bell et al. 2020, section 3.4 (and 4 for ``active``), with hypergeometric tails instead of
    their bounds. For a random ring it keeps, for all clients at once:

    - secrecy, but with probability ``2**-sigma``: no client has as many corrupt neighbours as
      would open its secrets (``threshold`` of them; with ``active``, where honest members can be
      told different things, ``2 * threshold - degree - 1``);
    - one sum, but with probability ``2**-sigma``: honest survivors hang together, for no
      ``degree / 2`` clients in a row are all corrupt or dropped;
    - recovery, but with probability ``2**-eta``: ``threshold`` neighbours of each client survive.

    The order on the ring follows from all clients' fresh keys. A server that breaks the protocol
    can compute it for ``2**b`` rosters, with other keys of one corrupt client, before it shows the
    best of them to the clients, and so gains ``b`` bits. With ``active`` the default has 40 bits
    more for that.

    Parameters
    ----------
    clients : int
        Clients in the roster.
    corrupt : float
        The part of them that may work together with the server, in [0, 1).
    dropout : float
        The part of them that may drop out, in [0, 1).
    sigma : float, optional
        Bits of security; 80 with ``active`` and 40 without.
    eta : float
        Bits of correctness.
    active : bool
        As in ``SecAggParameters``.

    Raises
    ------
    ConfigError
        Not even the complete graph keeps the promises.

    Examples
    --------
    >>> choose_degree(1000, corrupt=0.05, dropout=0.05)
    GraphChoice(degree=76, threshold=55)
    >>> choose_degree(10, corrupt=0.2, dropout=0.2)
    GraphChoice(degree=None, threshold=7)
    """
    if clients < 2 or not (0 <= corrupt < 1 and 0 <= dropout < 1):
        raise ConfigError(
            f"a graph needs 2 clients or more and parts in [0, 1), got {clients} clients, "
            f"{corrupt} corrupt and {dropout} dropping out"
        )
    bad, lost = (math.ceil(part * clients - 1e-9) for part in (corrupt, dropout))
    sigma = (_SIGMA + _GRINDING * active) if sigma is None else sigma
    union = math.log2(clients)
    for degree in range(2, clients - 1, 2):
        if _window(clients, bad + lost, degree // 2) > -sigma - union:
            continue
        secret = _tails(clients - 1, bad, degree) <= -sigma - union
        first = int(np.argmax(secret))  # so many corrupt neighbours are too rare to fear
        threshold = max((first + degree) // 2 + 1 if active else first, 2)
        # Fewer than ``threshold`` neighbours are left when more than ``spare`` are lost.
        spare = degree - threshold
        if spare >= 0 and _tails(clients - 1, lost, degree)[spare + 1] <= -eta - union:
            return GraphChoice(degree, threshold)
    # Where no more than the threshold are left, two of them must be honest.
    threshold = max((clients + bad) // 2 + 1 if active else 0, bad + 2)
    if clients - lost >= threshold:
        return GraphChoice(None, threshold)
    raise ConfigError(
        f"no graph of {clients} clients keeps secrets from {bad} corrupt ones and survives "
        f"{lost} dropouts",
        hint="assume fewer of either" + (" (active needs corrupt + 2 dropout < 1)" * active),
    )


def _log2_choose(n: int, k: npt.NDArray[np.int64] | int) -> Floats:
    logs = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, n + 1)))])
    chosen: Floats = logs[n] - logs[k] - logs[n - k]
    return chosen


def _tails(population: int, marked: int, drawn: int) -> Floats:
    """Return log2 of P[at least i of those drawn are marked] for i in 0 .. drawn + 1."""
    tails = np.full(drawn + 2, -np.inf)
    least, most = max(0, drawn + marked - population), min(drawn, marked)
    hits = np.arange(least, most + 1, dtype=np.int64)
    terms = _log2_choose(marked, hits) + _log2_choose(population - marked, drawn - hits)
    terms -= _log2_choose(population, drawn)
    tails[least : most + 1] = np.logaddexp2.accumulate(terms[::-1])[::-1]
    tails[:least] = 0.0
    return tails


def _window(population: int, marked: int, width: int) -> float:
    """Return log2 of P[all of ``width`` places are marked]."""
    if width > marked:
        return -math.inf
    return float(_log2_choose(marked, width) - _log2_choose(population, width))
