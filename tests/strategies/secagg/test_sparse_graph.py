"""Clients on a ring, of whom so many drop out that the others hang together no more."""

import pytest

from umbel.base import NotEnoughReplies
from umbel.clientapp import secagg_mod
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.secagg import SecAggParameters
from umbel.secagg.graph import Graph
from umbel.secagg.roster import Roster
from umbel.strategies import FedAvg, with_secagg

NODES = 14


@pytest.fixture
def handler():
    """Return clients that move a model by the number of their node."""

    def answer(message, context):
        content = RecordDict({"metrics": MetricRecord({"num-examples": 1})})
        if message.metadata.message_type == "train":
            arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
            arrays["w"] += context.node_id / NODES
            content["arrays"] = ArrayRecord(arrays)
        return content

    return answer


@pytest.fixture
def falling_apart(secure):
    """Return clients of whom two pairs of neighbours on the ring of a round are lost at once."""
    offers, lost = {}, set()

    def client(message, context):
        told = message.content.config_records.get("secagg", {})
        session = told.get("session")
        if told.get("stage") == "advertise":
            offers.setdefault(session, SecAggParameters.of(told))
        elif told.get("stage") == "share" and session == next(iter(offers)):
            roster = Roster.of(offers[session], session, told)
            ring = in_order(Graph(roster.nodes, 2, roster.hash))
            lost.update((session, ring[place]) for place in (0, 1, 5, 6))

        def fails(node, stage):
            return stage == "mask" and (session, node) in lost

        return secure(fails=fails, mod=secagg_mod(minimum_cohort=6))(message, context)

    return client


def in_order(ring):
    """Return the nodes of a ring in their order; two neighbours each tell it."""
    found = [0, ring.neighbours(0)[0]]
    while len(found) < NODES:
        found += set(ring.neighbours(found[-1])) - set(found)
    return found


def sparse(**options):
    strategy = FedAvg(fraction_evaluate=0, **options)
    return with_secagg(strategy, weight_max=1, degree=4, threshold=3)


def test_is_a_shortfall_that_names_the_cause(learn, falling_apart):
    with pytest.raises(NotEnoughReplies) as caught:
        learn(sparse(), falling_apart, nodes=NODES)
    assert "but the 10 survivors fall apart into groups of 7 and fewer" in str(caught.value)
    assert "lost power at mask" in str(caught.value)
    assert caught.value.context["replies"] == 10


def test_is_repeated_or_skipped(learn, falling_apart, plain, gap):
    events = []
    watch = {"nodes": NODES, "simulation": {"observers": [events.append]}}
    ours = learn(sparse(on_shortfall="repeat"), falling_apart, **watch)
    assert gap(ours.arrays, learn(FedAvg(fraction_evaluate=0), plain(), nodes=NODES).arrays) < 1e-6
    (short,) = [event.data for event in events if event.name == "phase_fell_short"]
    assert short["then"] == "repeat"
    assert "fall apart into groups" in short["reason"]


def test_leaves_the_model_where_a_round_may_be_skipped(learn, falling_apart, gap, model):
    skipped = learn(sparse(on_shortfall="skip"), falling_apart, nodes=NODES)
    assert gap(skipped.arrays, model) == 0
