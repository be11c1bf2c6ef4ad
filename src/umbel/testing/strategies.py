"""What every strategy keeps to, as checks that anyone can run on theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np

from umbel.base import ConfigError, RoundError, Seeds
from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from umbel.serverapp import NOT_FINITE, Result, Strategy, frozen_copy
from umbel.testing.backends import same_bits_on_backends
from umbel.testing.bits import bits, carried, first_unsound
from umbel.testing.cases import Check, asserting, changed, with_nan
from umbel.testing.clients import Federation, Wrap
from umbel.testing.fakegrid import FakeGrid
from umbel.testing.resuming import a_run_is_resumed

Make = Callable[[], Strategy]

_ROUNDS = 4


def strategy_checks(
    *,
    app: ClientApp | None = None,
    arrays: ArrayRecord | None = None,
    nodes: int = 7,
    grows: bool = False,
) -> Iterator[tuple[str, Check]]:
    """Yield ``(name, check)`` for everything that the contract of a strategy asks for.

    ``check(strategy)``, or ``check(make)`` with a function that makes one, returns nothing or
    raises ``AssertionError`` with a text that says what is wrong and what to do. A strategy that is
    given as an object is copied for every run. The check ``same_bits_on_backends`` starts worker
    processes and takes seconds.

    Parameters
    ----------
    app : ClientApp, optional
        Clients for a strategy that needs its own kind. They must leave the model as it is when
        ``context.run_config["lr"]`` is 0, and draw no random numbers.
    arrays : ArrayRecord, optional
        The model that those clients train.
    nodes : int, default=7
        How many clients there are, for a strategy that needs many.
    grows : bool, default=False
        Whether arrays may change their sizes, as those do that hold a serialised model.

    Examples
    --------
    >>> from umbel.strategies import FedAvg
    >>> for name, check in strategy_checks():
    ...     if name != "same_bits_on_backends":
    ...         check(FedAvg())
    """
    federation = Federation(nodes=nodes, grows=grows)
    if app is not None:
        federation.app = app
    if arrays is not None:
        federation.arrays = arrays
    checks: dict[str, Callable[[Make, Federation], None]] = {
        "zero_update": _zero_update,
        "shapes_and_dtypes_stay": _shapes_and_dtypes_stay,
        "one_node": _one_node,
        "some_nodes_fail": _some_nodes_fail,
        "replies_go_missing": _replies_go_missing,
        "all_nodes_fail": _all_nodes_fail,
        "nan_is_rejected": _nan_is_rejected,
        "order_of_replies": _order_of_replies,
        "fold_is_aggregate": _fold_is_aggregate,
        "current_arrays_stay": _current_arrays_stay,
        "runs_are_repeatable": _runs_are_repeatable,
        "state_travels": _state_travels,
        "a_run_is_resumed": a_run_is_resumed,
        "state_of_others_is_refused": _state_of_others_is_refused,
        "same_bits_on_backends": same_bits_on_backends,
    }
    for name, check in checks.items():
        yield name, _on(check, federation)


def _on(check: Callable[[Make, Federation], None], federation: Federation) -> Check:
    @asserting
    @wraps(check)
    def run(thing: Strategy | Make) -> None:
        make = (lambda: copy.deepcopy(thing)) if isinstance(thing, Strategy) else thing
        check(make, federation)

    return run


def _start(make: Make, federation: Federation, grid: FakeGrid) -> Result:
    """Run some rounds; whatever ends them must be an error that says why."""
    try:
        return make().start(grid, federation.arrays, num_rounds=3)
    except RoundError as error:
        # The loop's last resort: the strategy itself let it through.
        if error.message == NOT_FINITE:
            raise AssertionError(f"the strategy let NaN into the model: {error}") from error
        raise
    except Exception as error:
        raise AssertionError(
            f"the run ended with {type(error).__name__} ({error}). Let the strategy do without "
            f"what is missing, or raise one of the errors under umbel.base.RoundError."
        ) from error


def _is_model(arrays: ArrayRecord, federation: Federation, when: str) -> None:
    """Assert that a model has the right keys, shapes and dtypes, and holds numbers."""

    def layout(record: ArrayRecord) -> dict[str, tuple[Any, ...]]:
        return {k: (a.dtype, federation.grows or a.shape) for k, a in record.items()}

    expected, found = layout(federation.arrays), layout(arrays)
    wrong = {key: (expected.get(key), found.get(key)) for key in {*expected, *found}}
    wrong = {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}
    assert not wrong, (
        f"{when}, the model has other arrays (expected, found): {wrong}. Cast back to the dtype "
        f"that came in (umbel.updates.cast_back), keep 0-d arrays and empty ones."
    )
    key = first_unsound(arrays)
    assert key is None, f"{when}, the model holds NaN or infinity in {key!r}"


def _zero_update(make: Make, federation: Federation) -> None:
    result = _start(make, federation, federation.grid(lr=0.0))
    _is_model(result.arrays, federation, "after clients that learned nothing")
    before = federation.arrays.views()
    for key, value in result.arrays.views().items():
        assert value.shape == before[key].shape, f"clients that learned nothing resized {key!r}"
        wide, was = value.astype(np.float64), before[key].astype(np.float64)
        assert np.allclose(wide, was, rtol=1e-6, atol=1e-7), (
            f"clients that learned nothing changed {key!r} by {np.abs(wide - was).max():g}. A zero "
            f"update must keep the model."
        )


def _shapes_and_dtypes_stay(make: Make, federation: Federation) -> None:
    result = _start(make, federation, federation.grid())
    _is_model(result.arrays, federation, "after 3 rounds")
    assert bits(result.arrays) != bits(federation.arrays), (
        "3 rounds with clients that learn left the model as it was"
    )


def _one_node(make: Make, federation: Federation) -> None:
    try:
        result = _start(make, federation, federation.grid(nodes=1))
    except RoundError:
        return  # it needs more, and says so
    _is_model(result.arrays, federation, "with one node")


def _some_nodes_fail(make: Make, federation: Federation) -> None:
    def wrap(message: Message, reply: Message) -> Message | None:
        failed = message.metadata.dst_node_id == 1
        return Message(Error(1, "disk full"), reply_to=message) if failed else reply

    _with_failures(make, federation, wrap, {1}, "with a client that fails")


def _replies_go_missing(make: Make, federation: Federation) -> None:
    def wrap(message: Message, reply: Message) -> Message | None:
        return None if message.metadata.dst_node_id == 0 else reply

    _with_failures(make, federation, wrap, {0}, "with a client that never answers")


def _with_failures(
    make: Make, federation: Federation, wrap: Wrap, nodes: set[int], when: str
) -> Result | None:
    try:
        result = _start(make, federation, federation.grid(wrap=wrap))
    except RoundError:
        return None  # a strategy may need every reply, if it says so
    _is_model(result.arrays, federation, when)
    assert {failure.node_id for failure in result.failures} <= nodes, (
        f"{when} ({sorted(nodes)}), clients that did nothing wrong are among the failures: "
        f"{result.failures[:3]}"
    )
    return result


def _all_nodes_fail(make: Make, federation: Federation) -> None:
    def wrap(message: Message, reply: Message) -> Message | None:
        return Message(Error(1, "disk full"), reply_to=message)

    try:
        result = _start(make, federation, federation.grid(wrap=wrap))
    except RoundError:
        return
    assert bits(result.arrays) == bits(federation.arrays), (
        "all clients failed in every round, and the model changed"
    )


def _nan_is_rejected(make: Make, federation: Federation) -> None:
    def wrap(message: Message, reply: Message) -> Message | None:
        if message.metadata.dst_node_id == 1 and message.metadata.message_type == "train":
            reply.content = changed(reply.content, with_nan)
        return reply

    _with_failures(make, federation, wrap, {1}, "with a client that sends NaN")


class _Rounds:
    """Rounds done by hand, so that they can be cut anywhere and replies can be shuffled."""

    def __init__(self, federation: Federation) -> None:
        self.grid = federation.grid()
        self.grid.run.seeds, self.grid.run.start = Seeds(7), 1
        self.arrays = frozen_copy(federation.arrays)

    def train(
        self,
        strategy: Strategy,
        server_round: int,
        order: Callable[[list[Message]], list[Message]] = list,
    ) -> Any:
        """Run one round of training; return the bits of its outcome."""
        run = self.grid.run
        run.server_round, strategy.run = server_round, run
        arrays = strategy.current_arrays = self.arrays.copy()
        config = ConfigRecord({"server-round": server_round})
        messages = list(strategy.configure_train(server_round, arrays, config, self.grid))
        if not messages:
            return None
        run.begin_phase("train", [message.metadata.dst_node_id for message in messages])
        replies = order(list(self.grid.send_and_receive(messages)))
        arrays_after, metrics = strategy.aggregate_train(server_round, replies)
        if arrays_after is not None:
            self.arrays = arrays_after
        return bits(self.arrays), bits(metrics)


def _order_of_replies(make: Make, federation: Federation) -> None:
    orders: dict[str, Callable[[list[Message]], list[Message]]] = {
        "reversed": lambda replies: replies[::-1],
        "rotated": lambda replies: replies[2:] + replies[:2],
    }
    expected, strategy = _Rounds(federation), make()
    wanted = [expected.train(strategy, number) for number in (1, 2)]
    for name, order in orders.items():
        rounds, strategy = _Rounds(federation), make()
        found = [rounds.train(strategy, number, order) for number in (1, 2)]
        assert found == wanted, (
            f"replies in {name} order give other bits. Replies come as clients finish: sort them "
            f"by reply.metadata.src_node_id, or hand them to super().aggregate_train()."
        )


def _fold_is_aggregate(make: Make, federation: Federation) -> None:
    grid = federation.grid()
    grid.run.seeds = Seeds(7)
    result = make().start(grid, federation.arrays, num_rounds=1)
    by_hand = _Rounds(federation)
    by_hand.train(make(), 1)
    assert bits(result.arrays) == bits(by_hand.arrays), (
        "start() and aggregate_train() give other bits from the same replies. Let finish_train() "
        "do all that is done to the outcome of train_aggregator()."
    )


def _current_arrays_stay(make: Make, federation: Federation) -> None:
    rounds, strategy = _Rounds(federation), make()
    for number in (1, 2):
        before = rounds.arrays
        was = bits(before)
        try:
            rounds.train(strategy, number)
        except ValueError as error:
            raise AssertionError(
                f"round {number} ended with {error}. The global model is read-only: compute a new "
                f"one."
            ) from error
        assert bits(before) == was, (
            "aggregate_train() changed the model that was sent. Others hold it still: compute a "
            "new one."
        )


def _runs_are_repeatable(make: Make, federation: Federation) -> None:
    first, again = _Rounds(federation), _Rounds(federation)
    one, two = make(), make()
    for number in range(1, _ROUNDS + 1):
        assert first.train(one, number) == again.train(two, number), (
            f"two runs with the same seed and clients differ in round {number}. Draw random "
            f"numbers from self.run.seeds, and share nothing between two strategies."
        )


def _state_travels(make: Make, federation: Federation) -> None:
    whole, strategy = _Rounds(federation), make()
    wanted = [whole.train(strategy, number) for number in range(1, _ROUNDS + 1)]
    for cut in range(_ROUNDS):
        rounds, before, after = _Rounds(federation), make(), make()
        for number in range(1, cut + 1):
            rounds.train(before, number)
        state = carried(before.state_dict())
        after.load_state_dict(state)
        assert bits(after.state_dict()) == bits(state), (
            f"after {cut} rounds, state_dict() is not what load_state_dict() was given"
        )
        found = [rounds.train(after, number) for number in range(cut + 1, _ROUNDS + 1)]
        assert found == wanted[cut:], (
            f"a strategy that loaded its state after {cut} rounds goes on differently. Put into "
            f"state_dict() whatever the next round depends on, besides the model."
        )


def _state_of_others_is_refused(make: Make, federation: Federation) -> None:
    foreign = RecordDict({"of another": ArrayRecord([np.zeros(2)])})
    try:
        make().load_state_dict(foreign)
    except ConfigError:
        return
    except Exception as error:
        raise AssertionError(
            f"load_state_dict() of another strategy's state raised {type(error).__name__} "
            f"({error}). Raise ConfigError, and say where the state belongs."
        ) from error
    raise AssertionError(
        "load_state_dict() took the state of another strategy. Raise ConfigError when the records "
        "are not those of state_dict(): a run that resumes wrongly should end at once."
    )
