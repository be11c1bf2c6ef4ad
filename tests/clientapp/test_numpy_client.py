"""NumPyClient inside a ClientApp: what it receives, what is sent, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from umbel.base import RecordError, UsageError
from umbel.clientapp import ClientApp, NumPyClient
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

Arrays = list[np.ndarray[Any, Any]]


def ask(client: NumPyClient, content: RecordDict, message_type: str = "train") -> RecordDict:
    app = ClientApp(lambda context: client)
    context = Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})
    return app(Message(content, 1, message_type), context).content


def a_model() -> RecordDict:
    arrays = {"fc.weight": np.ones((2, 3), np.float32), "fc.steps": np.array(4)}
    return RecordDict(
        {
            "arrays": ArrayRecord(arrays),
            "config": ConfigRecord({"lr": 0.1, "server-round": 2}),
        }
    )


class Answers(NumPyClient):
    """Gives one prepared answer to every request."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def fit(self, parameters: Arrays, config: dict[str, Any]) -> Any:
        return self.answer

    evaluate = fit

    def get_parameters(self, config: dict[str, Any]) -> Any:
        return self.answer

    get_properties = get_parameters


def test_fit_receives_writable_copies_and_a_dict() -> None:
    content = a_model()
    received: list[Any] = []

    class InPlace(NumPyClient):
        def fit(self, parameters: Arrays, config: dict[str, Any]) -> Any:
            received.extend((type(parameters), config))
            for array in parameters:
                array += 1
            return parameters, np.int64(7), {"loss": np.float32(0.5)}

    reply = ask(InPlace(), content)
    assert received == [list, {"lr": 0.1, "server-round": 2}]
    assert type(received[1]) is dict
    assert list(reply) == ["arrays", "metrics"]
    assert list(reply["arrays"]) == ["fc.weight", "fc.steps"]
    np.testing.assert_array_equal(reply["arrays"]["fc.weight"].numpy(), np.full((2, 3), 2.0))
    assert reply["arrays"]["fc.weight"].dtype == "float32"
    assert reply["arrays"]["fc.steps"].numpy() == 5
    assert dict(reply["metrics"]) == {"num-examples": 7, "loss": 0.5}
    np.testing.assert_array_equal(content["arrays"]["fc.weight"].view(), np.ones((2, 3)))


def test_other_count_of_arrays_is_numbered() -> None:
    reply = ask(Answers(([np.zeros(1), np.ones(1), np.ones(2)], 1, {})), a_model())
    assert list(reply["arrays"]) == ["0", "1", "2"]


def test_scalars_that_numpy_makes_of_0d_arrays_are_arrays() -> None:
    reply = ask(Answers(((np.float32(2.0), np.int64(3)), 1, {})), a_model())
    assert reply["arrays"]["fc.weight"].shape == ()
    assert reply["arrays"]["fc.steps"].dtype == "int64"


def test_config_may_be_absent() -> None:
    class Look(NumPyClient):
        def fit(self, parameters: Arrays, config: dict[str, Any]) -> Any:
            assert config == {}
            return [], 0, {}

    reply = ask(Look(), RecordDict({"arrays": ArrayRecord()}))
    assert len(reply["arrays"]) == 0
    assert reply["metrics"]["num-examples"] == 0


def test_evaluate() -> None:
    reply = ask(Answers((np.float32(0.25), 12, {"accuracy": 0.9})), a_model(), "evaluate")
    assert list(reply) == ["metrics"]
    assert dict(reply["metrics"]) == {"loss": 0.25, "num-examples": 12, "accuracy": 0.9}


def test_the_loss_may_stand_among_the_metrics_too() -> None:
    nan = float("nan")
    reply = ask(Answers((nan, 1, {"loss": nan})), a_model(), "evaluate")
    assert np.isnan(reply["metrics"]["loss"])
    with pytest.raises(RecordError, match=r"Answers\.evaluate returned metric 'loss' = 2\.0"):
        ask(Answers((1.0, 1, {"loss": 2.0})), a_model(), "evaluate")


def test_queries() -> None:
    parameters = ask(Answers([np.zeros(2)]), RecordDict(), "query.get_parameters")
    assert list(parameters["arrays"]) == ["0"]
    for message_type in ("query", "query.get_properties"):
        properties = ask(Answers({"device": "cpu"}), RecordDict(), message_type)
        assert dict(properties["config"]) == {"device": "cpu"}


@pytest.mark.parametrize("message_type", ["query.other", "train.other", "evaluate.other"])
def test_other_actions_are_refused(message_type: str) -> None:
    with pytest.raises(UsageError, match=r"does not answer .* with action 'other'"):
        ask(Answers(None), a_model(), message_type)


@pytest.mark.parametrize(
    ("message_type", "method"),
    [
        ("train", "fit"),
        ("evaluate", "evaluate"),
        ("query.get_parameters", "get_parameters"),
        ("query", "get_properties"),
    ],
)
def test_a_method_that_is_left_out(message_type: str, method: str) -> None:
    class Empty(NumPyClient):
        pass

    with pytest.raises(UsageError, match=rf"Empty does not implement {method}, .*Empty\.{method}"):
        ask(Empty(), a_model(), message_type)


ONE = [np.zeros(1)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, r"Answers\.fit returned NoneType.*\(parameters, num_examples, metrics\)"),
        ((ONE, 1), r"Answers\.fit returned a tuple of 2"),
        ([*ONE, 1, {}], r"Answers\.fit returned list"),
        ((np.zeros(3), 1, {}), r"Answers\.fit returned ndarray as parameters.*list of NumPy"),
        (([[1.0]], 1, {}), r"Answers\.fit returned list as parameters\[0\]"),
        (([np.array([None])], 1, {}), r"Answers\.fit returned parameters that no record can hold"),
        ((ONE, 1.5, {}), r"Answers\.fit returned float as num_examples, expected an int"),
        ((ONE, True, {}), r"Answers\.fit returned bool as num_examples"),
        ((ONE, -1, {}), r"Answers\.fit returned num_examples = -1"),
        ((ONE, 1, None), r"Answers\.fit returned NoneType as metrics.*dict"),
        ((ONE, 1, {"name": "x"}), r"Answers\.fit returned metrics that no record can hold: .*name"),
        ((ONE, 1, {"num-examples": 2}), r"Answers\.fit returned metric 'num-examples' = 2 beside"),
    ],
)
def test_wrong_answers_of_fit(answer: object, text: str) -> None:
    with pytest.raises(RecordError, match=text):
        ask(Answers(answer), a_model())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((1.0, 1), r"Answers\.evaluate returned a tuple of 2.*\(loss, num_examples, metrics\)"),
        (("low", 1, {}), r"Answers\.evaluate returned str as the loss, expected a float"),
        ((True, 1, {}), r"Answers\.evaluate returned bool as the loss"),
        ((1.0, "1", {}), r"Answers\.evaluate returned str as num_examples"),
        ((1.0, 1, {"ok": True}), r"Answers\.evaluate returned metrics that no record can hold"),
    ],
)
def test_wrong_answers_of_evaluate(answer: object, text: str) -> None:
    with pytest.raises(RecordError, match=text):
        ask(Answers(answer), a_model(), "evaluate")


def test_wrong_answers_of_queries() -> None:
    with pytest.raises(RecordError, match=r"Answers\.get_parameters returned dict as parameters"):
        ask(Answers({}), RecordDict(), "query.get_parameters")
    with pytest.raises(RecordError, match=r"Answers\.get_properties returned list as properties"):
        ask(Answers([]), RecordDict(), "query")
    with pytest.raises(RecordError, match=r"Answers\.get_properties returned properties that no"):
        ask(Answers({"device": None}), RecordDict(), "query")


def test_messages_without_arrays_or_with_the_wrong_kind() -> None:
    with pytest.raises(RecordError, match="has no record \"arrays\"; it has 'model'"):
        ask(Answers(None), RecordDict({"model": ArrayRecord()}))
    with pytest.raises(RecordError, match=r'record "arrays" .* is MetricRecord, not ArrayRecord'):
        ask(Answers(None), RecordDict({"arrays": MetricRecord()}))
    with pytest.raises(RecordError, match=r'record "config" .* is MetricRecord, not ConfigRecord'):
        ask(Answers(None), RecordDict({"arrays": ArrayRecord(), "config": MetricRecord()}))
