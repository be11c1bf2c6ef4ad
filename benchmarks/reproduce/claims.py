"""Which orderings that papers report hold in a set of runs; every verdict comes from the runs."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

LAST = 5
"""An algorithm's figure is its mean accuracy over so many last rounds."""


@dataclass(frozen=True)
class Curve:
    """Accuracy by round, from round 0 on the server and from round 1 at the clients."""

    on_server: list[float]
    at_clients: list[float]


@dataclass(frozen=True)
class Claim:
    """`gain` of two curves of one seed is above zero if what the paper says is so."""

    text: str
    paper: str
    better: str
    worse: str
    gain: Callable[[Curve, Curve], float]
    unit: str = "points"


def final(values):
    return 100 * statistics.fmean(values[-LAST:])


def rounds_to(curve, target):
    """Return the first round that reaches an accuracy in %; one more than all if none does."""
    reached = (at for at, value in enumerate(curve.on_server) if 100 * value >= target)
    return next(reached, len(curve.on_server))


def more_accurate(better, worse):
    return final(better.on_server) - final(worse.on_server)


def more_accurate_at_clients(better, worse):
    return final(better.at_clients) - final(worse.at_clients)


def sooner(better, worse):
    """Return how many rounds sooner `better` is where `worse` ends."""
    target = final(worse.on_server)
    return rounds_to(worse, target) - rounds_to(better, target)


CLAIMS = (
    Claim("SCAFFOLD > FedAvg", "Karimireddy 2020", "SCAFFOLD", "FedAvg", more_accurate),
    Claim("FedProx > FedAvg", "Li 2020 (FedProx)", "FedProx", "FedAvg", more_accurate),
    Claim("SCAFFOLD > FedProx", "Li 2022 (NIID-Bench)", "SCAFFOLD", "FedProx", more_accurate),
    Claim("FedNova > FedAvg", "Wang 2020", "FedNova", "FedAvg", more_accurate),
    Claim(
        "FedNova > FedAvg, unequal epochs",
        "Wang 2020",
        "FedNova, unequal epochs",
        "FedAvg, unequal epochs",
        more_accurate,
    ),
    Claim("FedAdam > FedAvg", "Reddi 2021", "FedAdam", "FedAvg", more_accurate),
    Claim("FedDyn sooner than FedAvg", "Acar 2021", "FedDyn", "FedAvg", sooner, "rounds"),
    Claim("FedDyn sooner than SCAFFOLD", "Acar 2021", "FedDyn", "SCAFFOLD", sooner, "rounds"),
    Claim(
        "Ditto > FedAvg at clients", "Li 2021 (Ditto)", "Ditto", "FedAvg", more_accurate_at_clients
    ),
)


def verdict(gains):
    """Say whether an ordering holds in every seed, in none, or in some."""
    if all(gain > 0 for gain in gains):
        return "holds"
    if all(gain <= 0 for gain in gains):
        return "does not hold"
    return f"unclear: holds in {sum(gain > 0 for gain in gains)} of {len(gains)} seeds"


def judge(curves):
    """Yield (claim, gains by seed, verdict) for curves by algorithm, one a seed, of one split."""
    for claim in CLAIMS:
        pairs = zip(curves[claim.better], curves[claim.worse], strict=True)
        gains = [claim.gain(better, worse) for better, worse in pairs]
        yield claim, gains, verdict(gains)
