"""A whole secure aggregation in one process, step by step, so that tests can meddle with it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from umbel.secagg import ClientSession, Identity, SecAggParameters, ServerSession, plain_sum

SESSION = b"s" * 32
MODEL = b"hash of the model"


class Round:
    """Clients and a server; each method takes one step with those named, or with all still there.

    Between steps every session goes through bytes, as it does between messages.
    """

    def __init__(self, clients=5, threshold=3, *, session=SESSION, own=None, **parameters):
        parameters.setdefault("length", 4)
        self.parameters = SecAggParameters(threshold=threshold, **parameters)
        self.nodes = list(range(1, clients + 1))
        self.server = ServerSession(self.parameters, session, self.nodes)
        own = own or {}
        self.clients = {
            n: ClientSession.begin(self.parameters, session, n, **own.get(n, {}))
            for n in self.nodes
        }
        numbers = np.random.default_rng(clients)
        high = 2**self.parameters.bits
        self.vectors = {
            n: numbers.integers(0, high, self.parameters.length, self.parameters.dtype)
            for n in self.nodes
        }
        self.masked = {}

    def client(self, node):
        self.clients[node] = ClientSession.from_bytes(self.clients[node].to_bytes())
        return self.clients[node]

    def state(self, node):
        """What somebody who controls a client reads in its memory."""
        return json.loads(self.clients[node].to_bytes())

    def hides(self, node, vector):
        """Whether a vector has nothing in common with a client's update."""
        length = self.parameters.length
        assert length >= 1000  # for chance not to matter
        left = vector - self.vectors[node]
        return len(np.unique(left)) > 0.9 * length and (left == 0).sum() < 5

    def reload(self):
        self.server = ServerSession.from_bytes(self.server.to_bytes())
        return self.server

    def roster(self):
        self.entries = {n: self.client(n).advertise() for n in self.nodes}
        return self.reload().roster(self.entries)

    def shared(self, roster=None):
        roster = roster or self.roster()
        return {n: self.client(n).share(roster) for n in self.nodes}

    def relayed(self):
        shared = self.shared()
        return self.reload().relay(shared)

    def mask(self, node, relayed, model=MODEL):
        vector = self.vectors[node].copy()
        self.masked[node] = self.client(node).mask(vector, model, relayed[node])

    def survivors(self, nodes=None, models=None):
        nodes = nodes or self.nodes
        relayed = self.relayed()
        for node in nodes:
            self.mask(node, relayed, (models or {}).get(node, MODEL))
        return self.reload().survivors(nodes)

    def consistent(self, nodes=None, told=None):
        told = told or self.survivors(nodes)
        return {n: self.client(n).consistency(told) for n in told["survivors"]}

    def signatures(self, nodes=None):
        signed = self.consistent(nodes)
        return self.reload().signatures(signed)

    def opened(self, nodes=None):
        if not self.parameters.active:
            told = self.survivors(nodes)
            return {n: self.client(n).unmask(told) for n in told["survivors"]}
        told = self.signatures(nodes)
        return {n: self.client(n).unmask(told) for n in told["nodes"]}

    def total(self):
        return plain_sum(self.parameters, self.masked.values())

    def expected(self):
        return plain_sum(self.parameters, (self.vectors[n] for n in self.masked))

    def sum(self, nodes=None):
        replies = self.opened(nodes)
        return self.reload().unmask(replies, self.total())


@pytest.fixture(scope="session")
def secagg_round():
    return Round


@pytest.fixture
def long_round():
    """A round with vectors so long that chance cannot make them alike."""
    return lambda *args, **parameters: Round(*args, **{"length": 1000, **parameters})


@pytest.fixture(scope="session")
def posed():
    """Let a client advertise keys that are not its own, signed as they should be."""

    def pose(session, node, **keys):
        parameters, name = session.parameters, session.server.session
        identity = Identity.generate()
        session.clients[node] = ClientSession.begin(parameters, name, node, identity=identity)
        state = session.clients[node]._state
        entry = replace(state.entry, **keys)
        state.entry = replace(entry, signature=identity.sign(entry.statement(parameters, name)))

    return pose
