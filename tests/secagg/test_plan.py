from dataclasses import replace

import numpy as np
import pytest

from umbel.base import ConfigError, UsageError
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict, decode, encode
from umbel.secagg import Plan

PLAN = Plan({"b": 0.5, "*": 8.0}, 100, 32, "num-examples", "arrays", {"loss": 10.0})


def content(**changes):
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2)}
    config = {"lr": 0.1, "round": 1}
    return RecordDict(
        {
            "arrays": ArrayRecord({**arrays, **changes.get("arrays", {})}),
            "config": ConfigRecord({**config, **changes.get("config", {})}),
            **changes.get("records", {}),
        }
    )


class TestDigest:
    """Whatever the server could tell clients apart by has another hash."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"arrays": {"b": np.array([0.0, 1e-300])}},
            {"arrays": {"b": np.zeros(2, np.float32)}},
            {"arrays": {"w": np.arange(6, dtype=np.float32).reshape(3, 2)}},
            {"arrays": {"more": np.zeros(0)}},
            {"config": {"lr": 0.0}},
            {"config": {"lr": 1}},
            {"config": {"skip": True}},
            {"records": {"hints": ConfigRecord({"a": 1})}},
            {"records": {"secrets": ArrayRecord({"a": np.zeros(1)})}},
            {"records": {"hints": MetricRecord({"a": 1})}},
        ],
        ids=str,
    )
    def test_differs_with_all_that_a_client_is_sent(self, changes):
        assert PLAN.digest(content(**changes)) != PLAN.digest(content())

    def test_differs_with_the_plan(self):
        others = [
            Plan({"b": 0.5, "*": 8e9}, 100, 32, "num-examples", "arrays", {"loss": 10.0}),
            Plan({"*": 8.0, "b": 0.5}, 100, 32, "num-examples", "arrays", {"loss": 10.0}),
            Plan(PLAN.clip, 1e9, 32, "num-examples", "arrays", {"loss": 10.0}),
            Plan(PLAN.clip, 100, 64, "num-examples", "arrays", {"loss": 10.0}),
            Plan(PLAN.clip, 100, 32, "victims", "arrays", {"loss": 10.0}),
            Plan(PLAN.clip, 100, 32, "num-examples", "arrays", {}),
            replace(PLAN, personal=("b",)),
            replace(PLAN, fraction=0.5),
            replace(PLAN, error_feedback=False),
        ]
        digests = {plan.digest(content()) for plan in [PLAN, *others]}
        assert len(digests) == 10

    def test_is_the_same_for_what_travelled_and_in_any_order(self):
        sent = content()
        came = decode(b"".join(encode(sent)))
        assert PLAN.digest(came) == PLAN.digest(sent)
        turned = RecordDict(
            {
                "config": ConfigRecord(dict(reversed(sent["config"].items()))),
                "arrays": ArrayRecord(dict(reversed(sent["arrays"].items()))),
            }
        )
        assert PLAN.digest(turned) == PLAN.digest(sent)

    def test_does_not_depend_on_what_is_a_clients_own(self):
        own = content(records={"secagg": ConfigRecord({"from": [1, 2]})})
        assert PLAN.digest(own) == PLAN.digest(content())


def test_travels_as_settings():
    for plan in (
        PLAN,
        Plan({"*": 1.0}, 1.0),
        replace(PLAN, personal=("b",), fraction=0.1, error_feedback=False),
    ):
        record = RecordDict({"plan": ConfigRecord(plan.to_config())})
        came = decode(b"".join(encode(record)))["plan"]
        assert Plan.from_config(came) == plan


def test_a_fraction_that_is_none():
    with pytest.raises(ConfigError, match=r"lies in \(0, 1\]"):
        replace(PLAN, fraction=0.0).codes({"w": np.ones(2)}, 0)


@pytest.mark.parametrize("lacking", ["clip", "clip-bounds", "bits", "metrics"])
def test_settings_that_are_no_plan(lacking):
    config = PLAN.to_config()
    del config[lacking]
    with pytest.raises(ConfigError, match="cannot be read"):
        Plan.from_config(config)
    with pytest.raises(ConfigError, match="cannot be read"):
        Plan.from_config({**PLAN.to_config(), "clip-bounds": [1.0]})


def test_a_metric_that_is_missing_or_no_number():
    with pytest.raises(UsageError, match="'loss' is missing"):
        PLAN.parts({}, MetricRecord({"accuracy": 1.0}))
    with pytest.raises(UsageError, match="'loss' is no number"):
        PLAN.parts({}, MetricRecord({"loss": [1.0, 2.0]}))


def test_metrics_and_arrays_of_one_name_are_apart():
    parts = PLAN.parts({"loss": np.ones(2)}, MetricRecord({"loss": 0.5}))
    arrays, metrics = PLAN.split(parts)
    assert arrays["loss"].tolist() == [1.0, 1.0]
    assert dict(metrics) == {"loss": 0.5}
