"""The whole protocol gives the plain sum; each step is taken once, and leaves no secret behind."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import ConfigError, InvalidTransition, RecordError, SecAggAborted
from umbel.secagg import ClientSession, SecAggParameters, ServerSession


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize(("threshold", "degree"), [(5, None), (3, 4)])
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_the_sum_is_the_plain_sum(secagg_round, bits, threshold, degree, active):
    session = secagg_round(8, threshold, bits=bits, degree=degree, active=active)
    result = session.sum([1, 2, 4, 5, 6, 8])
    assert result.dtype == np.dtype(f"uint{bits}")
    np.testing.assert_array_equal(result, session.expected())


@given(
    data=st.data(),
    clients=st.integers(3, 6),
    bits=st.sampled_from([16, 32, 64]),
    active=st.booleans(),
)
@settings(max_examples=10)
def test_any_vectors_bits_and_thresholds(secagg_round, data, clients, bits, active):
    least = clients // 2 + 1 if active else 2
    threshold = data.draw(st.integers(least, clients))
    length = data.draw(st.integers(1, 9))
    session = secagg_round(clients, threshold, bits=bits, active=active, length=length)
    numbers = st.lists(st.integers(0, 2**bits - 1), min_size=length, max_size=length)
    for node in session.nodes:
        session.vectors[node] = np.array(data.draw(numbers), session.parameters.dtype)
    least_left = max(threshold, 3)  # and no sum of fewer than three
    stay = data.draw(st.sets(st.sampled_from(session.nodes), min_size=least_left))
    np.testing.assert_array_equal(session.sum(sorted(stay)), session.expected())


def test_a_masked_vector_is_unlike_the_vector_and_unlike_itself(secagg_round):
    first, second = secagg_round(length=1000), secagg_round(length=1000)
    for session in (first, second):
        session.survivors()
    assert (first.masked[1] == first.vectors[1]).sum() < 5
    assert (first.masked[1] == second.masked[1]).sum() < 5
    middle = first.masked[1].astype(float).mean() / 2**32
    assert abs(middle - 0.5) < 0.05


def test_a_step_is_taken_once_and_in_order(secagg_round):
    session = secagg_round()
    with pytest.raises(SecAggAborted, match=r"'share' was asked for.*at 'advertise'"):
        session.client(1).share({})
    relayed = session.relayed()
    session.mask(1, relayed)
    with pytest.raises(SecAggAborted, match=r"'mask' was asked for.*at 'consistency'"):
        session.mask(1, relayed)
    with pytest.raises(InvalidTransition, match=r"'relay'.*at 'survivors'"):
        session.server.relay({})


def test_a_step_run_again_from_the_same_state_gives_the_same_bytes(secagg_round):
    # As after a crash. Else one key would seal two texts, and mask two vectors.
    session = secagg_round()

    def again(step, *told):
        kept = session.clients[1].to_bytes()
        first, second = (ClientSession.from_bytes(kept) for _ in range(2))
        answers = [getattr(client, step)(*told) for client in (first, second)]
        assert first.to_bytes() == second.to_bytes()
        if step == "mask":
            answers = [vector.tobytes() for vector in answers]
        assert answers[0] == answers[1]

    roster = session.roster()
    again("share", roster)
    relayed = session.server.relay(session.shared(roster))
    vector = session.vectors[1]
    again("mask", vector.copy(), b"model", relayed[1])
    for node in session.nodes:
        session.mask(node, relayed)
    told = session.server.survivors(session.nodes)
    again("consistency", told)
    told = session.server.signatures(session.consistent(told=told))
    again("unmask", told)


def test_what_goes_wrong_for_any_reason_ends_the_session(secagg_round):
    session = secagg_round()
    session.relayed()
    client = session.client(1)
    with pytest.raises(AttributeError):
        client.mask(session.vectors[1].copy(), b"model", None)
    assert client.stage == "aborted"
    state = json.loads(client.to_bytes())
    assert not any(state[name] for name in ("mask_key", "self_seed", "signing_key", "shares"))


def test_a_state_holds_only_what_is_still_needed(secagg_round):
    session = secagg_round()

    def held(names):
        state = json.loads(session.clients[1].to_bytes())
        return {name for name in names if state[name]}

    session_keys = ("cipher_key", "mask_key", "self_seed", "dealing_key")
    every = (*session_keys, "signing_key", "shares")
    told = session.signatures()
    assert held(every) == {"signing_key", "shares"}
    session.client(1).unmask(told)
    assert not held(every)
    assert session.clients[1].stage == "done"
    other = secagg_round()
    assert other.clients[1].to_bytes() != session.clients[1].to_bytes()
    other.clients[1].advertise()
    with pytest.raises(SecAggAborted, match="'identity'"):
        other.clients[1].share({"nodes": [1]})
    state = json.loads(other.clients[1].to_bytes())
    assert state["stage"] == "aborted"
    assert not any(state[name] for name in every)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4, np.float32),
        np.zeros(4, np.uint64),
        np.zeros(5, np.uint32),
        np.zeros((2, 2), np.uint32),
        np.zeros(8, np.uint32)[::2],
        np.frombuffer(bytes(16), np.uint32),
    ],
)
def test_a_vector_that_cannot_be_masked_in_place_is_refused(secagg_round, vector):
    session = secagg_round()
    relayed = session.relayed()
    with pytest.raises(RecordError, match=r"^\[U103\] the vector"):
        session.client(1).mask(vector, b"model", relayed[1])
    assert session.clients[1].stage == "mask"  # nothing was given away: the app may mend it


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [
        ({"bits": 24}, "bits must be"),
        ({"length": 0}, "at least one number"),
        ({"threshold": 1}, "at least 2"),
        ({"degree": 3}, "even number"),
        ({"degree": 4, "threshold": 6}, "cannot reach"),
        ({"degree": 6, "threshold": 3}, "not more than half"),
    ],
)
def test_parameters_that_keep_nothing_secret_are_refused(numbers, complaint):
    numbers = {"threshold": 3, "length": 4, **numbers}
    with pytest.raises(ConfigError, match=complaint):
        SecAggParameters(**numbers)
    payload = SecAggParameters(threshold=3, length=4).payload() | numbers
    with pytest.raises(SecAggAborted, match=complaint):
        SecAggParameters.of(payload)


def test_parameters_travel():
    for degree in (None, 4):
        parameters = SecAggParameters(3, 9, bits=64, degree=degree, active=degree is None)
        assert SecAggParameters.of(parameters.payload()) == parameters
    with pytest.raises(SecAggAborted, match="'length'"):
        SecAggParameters.of({"threshold": 3})


def test_a_minimum_cohort_of_one_is_no_protection():
    with pytest.raises(ConfigError, match="at least 2"):
        ClientSession.begin(SecAggParameters(3, 4), bytes(32), 1, minimum_cohort=1)


@pytest.mark.parametrize("kind", [ClientSession, ServerSession])
@pytest.mark.parametrize("state", [b"", b"{}", b"[]", b"\xff", b'{"parameters": 3}'])
def test_a_state_that_was_damaged_is_refused(kind, state):
    with pytest.raises(SecAggAborted, match="cannot be read"):
        kind.from_bytes(state)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_a_vector_of_many_chunks_comes_out_the_same(secagg_round, bits):
    session = secagg_round(4, 3, length=200_003, bits=bits)
    np.testing.assert_array_equal(session.sum([1, 2, 4]), session.expected())
