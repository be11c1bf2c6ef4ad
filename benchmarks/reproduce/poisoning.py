"""Attacks on a federation, played where all replies come together, for `attacks.py`.

The attackers are omniscient and collude: they see what the honest clients send in the same round.
So `Poisoned` changes the attackers' replies on the server, just before the defence sees them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from umbel.records import ArrayRecord, RecordDict
from umbel.strategies import FedAvg

Forge = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`forge(honest, own)`, both with an update (reply minus model) a row, returns what replaces `own`.
"""


def as_trained(honest, own):
    """Send what training gave: the attack is in the data."""
    return own


def sign_flip(honest, own, strength):
    """Send the own update with its sign turned, and longer. Li et al. 2019, arXiv:1811.03761."""
    return -strength * own


def a_little_is_enough(honest, own, z):
    """Send the honest mean less `z` standard deviations. Baruch et al. 2019, arXiv:1902.06635.

    The shift hides among the honest updates, coordinate by coordinate.
    """
    return np.broadcast_to(honest.mean(axis=0) - z * honest.std(axis=0), own.shape)


def inner_product(honest, own, epsilon):
    """Send the honest mean turned round and shortened. Xie et al. 2020, arXiv:1903.03936."""
    return np.broadcast_to(-epsilon * honest.mean(axis=0), own.shape)


def model_replacement(honest, own):
    """Send an update so long that the mean is the attackers' model.

    Bagdasaryan et al. 2020, arXiv:1807.00459, equation 3.
    """
    return own * ((len(honest) + len(own)) / len(own))


@dataclass(frozen=True)
class Attack:
    """What attackers train on, and what they send."""

    forge: Forge
    flips_labels: bool = False


ATTACKS = {
    "label flip": Attack(as_trained, flips_labels=True),
    "sign flip": Attack(partial(sign_flip, strength=4.0)),
    "ALIE": Attack(partial(a_little_is_enough, z=1.5)),
    "IPM": Attack(partial(inner_product, epsilon=0.5)),
    "scaling": Attack(model_replacement, flips_labels=True),
}


class Poisoned(FedAvg):
    """A defence that the attackers' replies reach as the attack has forged them."""

    forge: Forge
    attackers: frozenset[int]

    def aggregate_train(self, server_round, replies):
        answers = [reply for reply in replies if reply.has_content()]
        lying = [reply.metadata.src_node_id in self.attackers for reply in answers]
        if not any(lying):
            return super().aggregate_train(server_round, answers)
        model = self.current_arrays.views()
        sent = np.stack([flat(reply.content["arrays"].views()) for reply in answers])
        updates = sent - flat(model)
        is_lying = np.array(lying)
        forged = flat(model) + self.forge(updates[~is_lying], updates[is_lying])
        for reply, vector in zip(np.array(answers)[is_lying], forged, strict=True):
            arrays = ArrayRecord(unflat(vector, model))
            reply.content = RecordDict({**reply.content, "arrays": arrays})
        return super().aggregate_train(server_round, answers)


def poisoned(defence, forge, attackers, **options):
    """Return the strategy `defence(**options)` with some of its replies forged."""
    strategy = type(f"Poisoned{defence.__name__}", (Poisoned, defence), {})(**options)
    strategy.forge, strategy.attackers = forge, frozenset(attackers)
    return strategy


def flat(arrays):
    return np.concatenate([value.ravel() for value in arrays.values()])


def unflat(vector, like):
    ends = np.cumsum([value.size for value in like.values()])[:-1]
    parts = np.split(vector.astype(np.float32), ends)
    return {
        key: part.reshape(value.shape)
        for (key, value), part in zip(like.items(), parts, strict=True)
    }
