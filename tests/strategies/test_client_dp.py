"""Updates that clients clip, and the server noises."""

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.clientapp import clipping_mod, dp_client_mod
from umbel.privacy import AdaptiveBound, PerLayer
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from umbel.strategies import FedAdam, FedAvg, FedBN, with_central_dp, with_client_dp

ANY = {"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0}
SOME = {"noise_multiplier": 1.0, "accountant": "rdp", "delta": 1e-6, "clipping": 2.0, "cohort": 4}


def modded(client, *mods):
    """Return a client inside of mods."""

    def run(message):
        context = Context("run", message.metadata.dst_node_id)

        def inner(message, context):
            return Message(client(message), reply_to=message)

        handlers = [inner]
        for mod in mods:
            inside = handlers[-1]
            handlers.append(lambda m, c, mod=mod, inside=inside: mod(m, c, inside))
        return handlers[-1](message, context).content

    return run


def model(dtype=np.float64):
    return ArrayRecord({"w": np.zeros(3, dtype), "steps": np.array(4)})


@pytest.mark.parametrize("clipping", [2.0, PerLayer({"w": 2.0}), AdaptiveBound(2.0)])
@pytest.mark.parametrize("make", [FedAvg, FedAdam])
def test_it_is_what_the_server_would_do(learn, moving, clipping, make):
    client = moving(lambda node: [3.0 * node, 0.5, -1.0])
    options = SOME | {"clipping": clipping, "cohort": 40}
    expected, _ = learn(with_central_dp(make(**ANY), **options), client, model(), rounds=3)
    strategy = with_client_dp(make(**ANY), **options)
    got, _ = learn(strategy, modded(client, dp_client_mod), model(), rounds=3)
    assert not got.failures
    # The same sum has the same noise.
    np.testing.assert_allclose(got.arrays["w"].view(), expected.arrays["w"].view(), rtol=1e-12)
    assert int(got.arrays["steps"].view()) == 4
    assert got.privacy.epsilon == expected.privacy.epsilon
    assert "clipped by the client" in str(got.privacy)
    assert "noise added at the server" in str(got.privacy)


def test_what_leaves_the_client_is_within_the_bound(learn, moving):
    sent = []

    def listening(message):
        content = modded(moving(lambda node: [30.0, 40.0, 0.0]), dp_client_mod)(message)
        sent.append(content["arrays"])
        return content

    learn(with_client_dp(FedAvg(**ANY), **SOME), listening, model(np.float16))
    for arrays in sent:
        assert list(arrays) == ["w"]
        assert np.linalg.norm(arrays["w"].view().astype(np.float64)) <= 2.0
        assert arrays["w"].dtype == "float32"  # that of sums: nothing is rounded after clipping


def test_a_client_that_does_not_clip_is_left_out(learn, moving):
    def client(message):
        raw = moving(lambda node: [1.0, 0.0, 0.0])
        return raw(message) if message.metadata.dst_node_id == 1 else clipping(raw)(message)

    def clipping(raw):
        return modded(raw, dp_client_mod)

    result, _ = learn(with_client_dp(FedAvg(**ANY), **SOME), client, model())
    assert [failure.node_id for failure in result.failures] == [1]
    assert "mods=[dp_client_mod]" in result.failures[0].message


def test_a_client_that_lies_about_its_length_is_clipped_again(learn):
    def client(message):
        asked = message.content["dp"]
        content = {"arrays": ArrayRecord({"w": np.full(3, 1e9)}), "metrics": MetricRecord({})}
        told = ConfigRecord({"clipping": asked["clipping"], "within": True})
        return RecordDict({**content, "dp": told})

    options = SOME | {"noise_multiplier": 1e-9}
    result, _ = learn(with_client_dp(FedAvg(**ANY), **options), client, model())
    assert np.linalg.norm(result.arrays["w"].view()) <= 2.0 * (1 + 1e-6)


def test_the_handler_sees_a_message_as_ever(learn, moving):
    seen = []

    def client(message):
        seen.append((sorted(message.content), message.content["arrays"]["w"].view().flags))
        return moving(lambda node: 1.0)(message)

    strategy = with_client_dp(FedAvg(**ANY), **SOME)
    learn(strategy, modded(client, dp_client_mod), model())
    assert all(names == ["arrays", "config"] and not flags.writeable for names, flags in seen)


def test_other_messages_and_errors_pass(moving):
    message = Message(RecordDict({"arrays": model()}), 1, "train")
    content = modded(moving(lambda node: 1.0), dp_client_mod)(message)
    assert content["arrays"]["w"].view().tolist() == [1, 1, 1]
    assert "dp" not in content


def test_personal_arrays_stay_at_the_client(learn, moving):
    def client(message):
        content = moving(lambda node: 1.0)(message)
        del content["arrays"]["bn.weight"]
        return content

    initial = ArrayRecord({"w": np.zeros(2), "bn.weight": np.ones(2)})
    options = SOME | {"noise_multiplier": 1e-9, "clipping": 100.0}
    strategy = with_client_dp(FedBN(**ANY), **options)
    result, _ = learn(strategy, modded(client, dp_client_mod), initial)
    assert not result.failures
    np.testing.assert_allclose(result.arrays["w"].view(), 1.0, rtol=1e-5)


def test_an_array_that_is_not_the_models_is_named(learn, moving):
    def client(message):
        content = moving(lambda node: 1.0)(message)
        content["arrays"]["w"] = np.zeros((3, 1))
        return content

    strategy = with_client_dp(FedAvg(min_completion=1, on_shortfall="skip", **ANY), **SOME)
    result, run = learn(strategy, modded(client, dp_client_mod), model())
    assert len(result.failures) == 4
    assert "has another shape" in result.failures[0].message
    assert not [e for e in run.log.entries() if e.event == "privacy_spent"]


def test_a_bound_of_ones_own_may_be_inside(learn, moving):
    client = modded(moving(lambda node: [8.0, 0, 0]), clipping_mod(0.5), dp_client_mod)
    options = SOME | {"noise_multiplier": 1e-9}
    result, _ = learn(with_client_dp(FedAvg(**ANY), **options), client, model())
    np.testing.assert_allclose(result.arrays["w"].view(), [0.5, 0, 0], atol=1e-6)


def test_it_refuses_what_central_dp_refuses():
    with pytest.raises(ConfigError):
        with_client_dp(FedAvg(**ANY), **SOME | {"cohort": 0})
