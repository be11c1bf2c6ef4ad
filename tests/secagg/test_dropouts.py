"""Every pattern of dropouts, at each step: the plain sum up to the threshold, an abort beyond it.

The patterns form a tree, step by step. What all below a branch have in common is computed once.
"""

import re
from itertools import combinations

import numpy as np
import pytest

from umbel.base import SecAggAborted
from umbel.secagg import ClientSession, SecAggParameters, ServerSession, plain_sum

SESSION, MODEL = bytes(range(32)), b"model"
CAUSES = "too few clients are left|cannot reach the threshold|fall apart into groups"


class Patterns:
    """Walks the tree; counts the patterns that came to their end, and looks for the fewest dropouts
    that led to an abort and the most that did not.
    """

    def __init__(self, nodes, drops, **parameters):
        self.parameters = SecAggParameters(length=3, **parameters)
        self.nodes, self.drops = nodes, drops
        self.done, self.most_done, self.fewest_aborted = 0, 0, len(nodes)
        numbers = np.random.default_rng(1)
        high, kind = 2**self.parameters.bits, self.parameters.dtype
        self.vectors = {n: numbers.integers(0, high, 3, kind) for n in nodes}

    def branches(self, present, server, step):
        """Take the server's step for each way in which some of those present drop out."""
        spare = self.drops - (len(self.nodes) - len(present))
        for lost in range(spare + 1):
            for gone in combinations(present, lost):
                stay = [n for n in present if n not in gone]
                after = ServerSession.from_bytes(server)
                dropped = len(self.nodes) - len(stay)
                try:
                    told = step(after, stay)
                except SecAggAborted as error:
                    if not re.search(CAUSES, error.message):
                        raise
                    self.fewest_aborted = min(self.fewest_aborted, dropped)
                else:
                    yield stay, after.to_bytes(), told

    def walk(self):
        server = ServerSession(self.parameters, SESSION, self.nodes)
        clients = {n: ClientSession.begin(self.parameters, SESSION, n) for n in self.nodes}
        entries = {n: client.advertise() for n, client in clients.items()}
        states = {n: client.to_bytes() for n, client in clients.items()}

        def step(server, stay):
            return server.roster({n: entries[n] for n in stay})

        for stay, after, roster in self.branches(self.nodes, server.to_bytes(), step):
            self.share(after, stay, states, roster)

    def answers(self, states, stay, answer):
        clients = {n: ClientSession.from_bytes(states[n]) for n in stay}
        replies = {n: answer(n, client) for n, client in clients.items()}
        return replies, {n: client.to_bytes() for n, client in clients.items()}

    def share(self, server, present, states, roster):
        replies, states = self.answers(states, present, lambda n, c: c.share(roster))

        def step(server, stay):
            return server.relay({n: replies[n] for n in stay})

        for stay, after, relayed in self.branches(present, server, step):
            self.mask(after, stay, states, relayed)

    def mask(self, server, present, states, relayed):
        masked, states = self.answers(
            states, present, lambda n, c: c.mask(self.vectors[n].copy(), MODEL, relayed[n])
        )

        def step(server, stay):
            return server.survivors(stay)

        for stay, after, told in self.branches(present, server, step):
            total = plain_sum(self.parameters, (masked[n] for n in stay))
            expected = plain_sum(self.parameters, (self.vectors[n] for n in stay))
            self.consistency(after, stay, states, told, (total, expected))

    def consistency(self, server, present, states, told, sums):
        if not self.parameters.active:
            self.unmask(server, present, states, told, sums)
            return
        replies, states = self.answers(states, present, lambda n, c: c.consistency(told))

        def step(server, stay):
            return server.signatures({n: replies[n] for n in stay})

        for stay, after, signed in self.branches(present, server, step):
            self.unmask(after, stay, states, signed, sums)

    def unmask(self, server, present, states, told, sums):
        replies, _ = self.answers(states, present, lambda n, c: c.unmask(told))
        total, expected = sums

        def step(server, stay):
            return server.unmask({n: replies[n] for n in stay}, total.copy())

        for stay, _, result in self.branches(present, server, step):
            assert result.tolist() == expected.tolist()
            self.done += 1
            self.most_done = max(self.most_done, len(self.nodes) - len(stay))


def patterns(clients, steps, most):
    """How many patterns have at most so many dropouts, each at one of the steps."""
    total, ways = 0, 1
    for lost in range(most + 1):
        total += ways * steps**lost
        ways = ways * (clients - lost) // (lost + 1)
    return total


@pytest.mark.parametrize(("active", "steps"), [(True, 5), (False, 4)])
def test_every_pattern_of_four_clients(active, steps):
    walked = Patterns([2, 3, 5, 8], 2, threshold=3, active=active)
    walked.walk()
    assert walked.done == patterns(4, steps, 1)
    assert (walked.most_done, walked.fewest_aborted) == (1, 2)


@pytest.mark.slow
def test_every_pattern_of_eight_clients():
    walked = Patterns(list(range(1, 9)), 4, threshold=5)
    walked.walk()
    assert walked.done == patterns(8, 5, 3) == 7741
    assert (walked.most_done, walked.fewest_aborted) == (3, 4)


@pytest.mark.slow
def test_every_pattern_of_eight_clients_on_a_ring():
    # Each neighbourhood has 5 members and needs 3. No 2 dropouts can hurt; with 3 it depends on
    # where they are. Those that are aborted say so; the others give the sum.
    walked = Patterns(list(range(1, 9)), 3, threshold=3, degree=4, active=False)
    walked.walk()
    assert walked.fewest_aborted == 3
    assert patterns(8, 4, 2) < walked.done < patterns(8, 4, 3)
    assert walked.most_done == 3
