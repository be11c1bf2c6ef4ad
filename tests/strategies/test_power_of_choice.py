import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.strategies import PowerOfChoice


def client(message, context):
    if message.metadata.message_type == "evaluate" and context.node_id == 5:
        raise OSError("no data")
    metrics = {"num-examples": 1, "loss": float(context.node_id % 7), "node": context.node_id}
    if message.metadata.message_type == "evaluate":
        return RecordDict({"metrics": MetricRecord(metrics)})
    arrays = ArrayRecord({"w": np.full(2, float(context.node_id))})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})


def cohort(federate, **options):
    strategy = PowerOfChoice(fraction_evaluate=0.0, **options)
    events = []
    federate(
        strategy,
        client,
        nodes=10,
        initial=ArrayRecord({"w": np.zeros(2)}),
        num_rounds=1,
        simulation={"observers": [events.append]},
    )
    (started,) = (event for event in events if event.name == "phase_started")
    return started.data["nodes"]


def test_the_greatest_losses_train(federate):
    # Node 5 does not answer; the others lose 0 1 2 3 4 . 6 0 1 2.
    assert cohort(federate, num_candidates=10, num_selected=3) == [3, 4, 6]


def test_weights_decide_who_is_a_candidate(federate):
    weights = {0: 1.0, 7: 1.0, 8: 2.0}
    assert cohort(federate, num_candidates=3, num_selected=1, weights=weights) == [8]


def test_without_a_loss_it_says_so(federate):
    with pytest.raises(ConfigError, match="no candidate replied with a metric 'error'"):
        cohort(federate, num_candidates=4, num_selected=2, loss_key="error")


def test_more_selected_than_candidates():
    with pytest.raises(ConfigError, match="cannot be selected"):
        PowerOfChoice(num_candidates=2, num_selected=3)
