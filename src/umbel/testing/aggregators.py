"""What every aggregator keeps to, as checks that anyone can run on theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from typing import Any, TypeAlias

import cloudpickle

from umbel.base import AggregationError, RejectedReply, UmbelError
from umbel.records import ArrayRecord, RecordDict
from umbel.testing.bits import bits, carried, first_unsound
from umbel.testing.cases import (
    COHORT,
    SHAPES,
    Check,
    Reply,
    asserting,
    big_endian,
    changed,
    model,
    permuted,
    plain_reply,
    replies,
    strided,
    with_nan,
)
from umbel.updates import Aggregator, PartialSums, fold

Fold: TypeAlias = Aggregator[Any]
Contents: TypeAlias = list[RecordDict]


def aggregator_checks(
    *,
    reply: Reply = plain_reply,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
) -> Iterator[tuple[str, Check]]:
    """Yield ``(name, check)`` for everything that the contract of an aggregator asks for.

    ``check(aggregator)``, or ``check(make)`` with a function that makes one, returns nothing or
    raises ``AssertionError`` with a text that says what is wrong and what to do.

    Parameters
    ----------
    reply : callable, optional
        ``reply(arrays, num_examples) -> RecordDict`` if the aggregator reads other replies than
        one of arrays under ``"arrays"`` and metrics under ``"metrics"``.
    shapes : mapping of str to tuple of int, optional
        The shapes of the model, if the aggregator takes only its own.

    Examples
    --------
    >>> from umbel.updates import WeightedMean
    >>> for name, check in aggregator_checks():
    ...     check(WeightedMean())
    """
    for case, contents in replies(shapes, reply):
        yield f"adding_is_merging-{case}", _on(_adding_is_merging, contents)
        yield f"workers_change_no_bit-{case}", _on(_workers_change_no_bit, contents)
    plain = [reply(model(shapes, "float32", i), 1 + i % 4) for i in range(COHORT)]
    zeros = [changed(content, _zeroed) for content in plain]
    weightless = [reply(model(shapes, "float32", i), 0) for i in range(COHORT)]
    checks: dict[str, Callable[[Fold, Contents], None]] = {
        "sums_travel": _sums_travel,
        "settings_travel": _settings_travel,
        "sums_are_apart": _sums_are_apart,
        "replies_are_only_lent": _replies_are_only_lent,
        "layout_changes_no_bit": _layout_changes_no_bit,
        "a_rejected_reply_leaves_no_trace": _rejected_leaves_no_trace,
        "spoiled_sums_are_found": _spoiled_sums_are_found,
        "one_reply": _one_reply,
        "no_reply": _no_reply,
    }
    for name, check in checks.items():
        yield name, _on(check, plain)
    yield "zero_update", _on(_finite, zeros)
    yield "zero_weights", _on(_finite, weightless)


def _on(check: Callable[[Fold, Contents], None], contents: Contents) -> Check:
    @asserting
    @wraps(check)
    def run(thing: Fold | Callable[[], Fold]) -> None:
        check(thing if isinstance(thing, Aggregator) else thing(), contents)

    return run


def _add(aggregator: Fold, acc: Any, content: RecordDict) -> Any:
    try:
        return aggregator.add(acc, content)
    except UmbelError as error:
        raise AssertionError(
            f"add() will not have an ordinary reply: {error}. Take it, or pass `reply=` to the "
            f"suite so that it makes replies of the kind that this aggregator reads."
        ) from error


def _sum(aggregator: Fold, contents: Iterable[RecordDict]) -> Any:
    acc = aggregator.zero()
    for content in contents:
        acc = _add(aggregator, acc, content)
    return acc


def _outcome(aggregator: Fold, acc: Any) -> Any:
    """Return the bits of what a fold ends in, be it an error of the right kind."""
    try:
        return bits(aggregator.finish(acc))
    except AggregationError as error:
        return type(error).__name__


def _adding_is_merging(aggregator: Fold, contents: Contents) -> None:
    for count, content in enumerate(contents):
        added = _sum(aggregator, contents[: count + 1])
        merged = aggregator.merge(_sum(aggregator, contents[:count]), _sum(aggregator, [content]))
        assert _outcome(aggregator, added) == _outcome(aggregator, merged), (
            f"add(acc, x) is not merge(acc, add(zero(), x)) to the last bit, with {count} replies "
            f"in acc. Form the product or copy of a reply in the same dtype and order in both."
        )


def _workers_change_no_bit(aggregator: Fold, contents: Contents) -> None:
    members: list[RecordDict | None] = [*contents]
    members[1] = members[-1] = None  # some clients always fail
    expected = _outcome(aggregator, fold(aggregator, members, len(members)))
    for workers in (1, 2, 3, len(members)):
        for order in (range(len(members)), [(7 * i) % len(members) for i in range(len(members))]):
            total = _folded_by(aggregator, members, order, workers)
            assert _outcome(aggregator, total) == expected, (
                f"{workers} workers that share the cohort give other bits than one. add() and "
                f"merge() must depend on nothing but their arguments, and unpack(pack(acc)) must "
                f"be acc."
            )


def _folded_by(
    aggregator: Fold, members: list[RecordDict | None], order: Iterable[int], workers: int
) -> Any:
    """Fold as workers do: each its share, in some order; the partial sums travel and merge."""
    sums: PartialSums[Any] = PartialSums(len(members), aggregator.merge)
    shares: list[PartialSums[Any]] = [
        PartialSums(len(members), aggregator.merge) for _ in range(workers)
    ]
    for turn, position in enumerate(order):
        share, content = shares[turn % workers], members[position]
        start, acc = share.take_before(position)
        if content is not None:
            acc = _add(aggregator, aggregator.zero() if acc is None else acc, content)
        share.put((start, position + 1), acc)
    for share in shares:
        for span, acc in share.drain():
            travelled = None if acc is None else aggregator.unpack(carried(aggregator.pack(acc)))
            sums.put(span, travelled)
    return sums.total()


def _sums_travel(aggregator: Fold, contents: Contents) -> None:
    for count in (0, 1, len(contents) - 1):
        packed = carried(aggregator.pack(_sum(aggregator, contents[:count])))
        rest = contents[count:]
        here = aggregator.merge(_sum(aggregator, contents[:count]), _sum(aggregator, rest))
        there = aggregator.merge(aggregator.unpack(packed), _sum(aggregator, rest))
        assert _outcome(aggregator, here) == _outcome(aggregator, there), (
            f"unpack(pack(acc)) is not acc, with {count} replies in it. Pack everything that "
            f"merge() and finish() read, and dtypes too."
        )
        again = carried(aggregator.pack(aggregator.unpack(packed)))
        assert bits(again) == bits(packed), (
            "a sum that travels twice (from worker to relay to server) is not what it was. "
            "pack(unpack(content)) must be content."
        )


def _settings_travel(aggregator: Fold, contents: Contents) -> None:
    try:
        twin = cloudpickle.loads(cloudpickle.dumps(aggregator))
    except Exception as error:
        raise AssertionError(
            f"the aggregator cannot be sent to a worker ({error}). Keep settings in it, and open "
            f"files, locks or connections only inside its methods."
        ) from error
    assert _outcome(twin, _sum(twin, contents)) == _outcome(
        aggregator, _sum(aggregator, contents)
    ), "the aggregator's copy in a worker gives other bits. It may hold settings, and no data."


def _sums_are_apart(aggregator: Fold, contents: Contents) -> None:
    alone = _outcome(aggregator, _sum(aggregator, contents[:3]))
    first, second = aggregator.zero(), aggregator.zero()
    for a, b in zip(contents[:3], contents[3:6], strict=True):
        first, second = _add(aggregator, first, a), _add(aggregator, second, b)
    assert _outcome(aggregator, first) == alone, (
        "two sums in progress at once get mixed. Keep what is summed in the accumulator that "
        "zero() returns, a new one each time, and never on self."
    )


def _replies_are_only_lent(aggregator: Fold, contents: Contents) -> None:
    expected = _outcome(aggregator, _sum(aggregator, contents))
    acc = aggregator.zero()
    for content in contents:
        lent = {
            (name, key): array.numpy()
            for name, record in content.array_records.items()
            for key, array in record.items()
        }
        borrowed = RecordDict(content)
        for name, record in content.array_records.items():
            borrowed[name] = ArrayRecord({key: lent[name, key] for key in record})
        acc = _add(aggregator, acc, borrowed)
        assert bits(borrowed) == bits(content), (
            "add() changed the reply. Its arrays are lent: work on copies of them."
        )
        for array in lent.values():
            array.fill(77)
    assert _outcome(aggregator, acc) == expected, (
        "the outcome changed with memory that was only lent to add(): a reference to an array of a "
        "reply was kept. Copy what must stay; shared memory is used again after the call."
    )


def _layout_changes_no_bit(aggregator: Fold, contents: Contents) -> None:
    expected = _outcome(aggregator, _sum(aggregator, contents))
    variants: dict[str, Callable[[RecordDict], RecordDict]] = {
        "that are read-only": carried,
        "whose keys stand in another order": partial(changed, change=permuted),
        "that are not contiguous": partial(changed, change=strided),
        "that are big-endian": partial(changed, change=big_endian),
    }
    for what, vary in variants.items():
        # Every second reply only, so that both kinds meet.
        varied = [vary(c) if i % 2 else c for i, c in enumerate(contents)]
        assert _outcome(aggregator, _sum(aggregator, varied)) == expected, (
            f"replies with arrays {what} give other bits, though the values are the same. Go by "
            f"key, and let NumPy do the indexing."
        )


def _rejected_leaves_no_trace(aggregator: Fold, contents: Contents) -> None:
    good, bad = contents[:3], contents[4]
    lacking = [
        (f"without the record {name!r}", RecordDict({k: r for k, r in bad.items() if k != name}))
        for name in bad
    ]
    spoiled = [
        ("with NaN", changed(bad, with_nan)),
        (
            "with an array more",
            changed(bad, lambda arrays: {**arrays, "more": arrays["w"]})
            if any("w" in r for r in bad.array_records.values())
            else bad,
        ),
        ("with no arrays", changed(bad, lambda arrays: {})),
        ("of text", changed(bad, lambda arrays: {k: a.astype("U4") for k, a in arrays.items()})),
    ]
    for what, content in [("that is empty", RecordDict()), *lacking, *spoiled]:
        for before in (0, len(good)):
            acc = _sum(aggregator, good[:before])
            try:
                aggregator.add(acc, content)
            except RejectedReply:
                pass
            except Exception as error:
                raise AssertionError(
                    f"add() raised {type(error).__name__} ({error}) on a reply {what}. Raise "
                    f"RejectedReply: then this client fails and the round goes on."
                ) from error
            else:
                continue
            for other in good[before:]:
                acc = _add(aggregator, acc, other)
            assert _outcome(aggregator, acc) == _outcome(aggregator, _sum(aggregator, good)), (
                f"add() rejected a reply {what}, and left a trace of it in acc. Check everything "
                f"first and add after."
            )


def _spoiled_sums_are_found(aggregator: Fold, contents: Contents) -> None:
    quick = copy.deepcopy(aggregator)
    quick.looks_at_values = False
    assert quick.is_sound(_sum(quick, contents)), (
        "is_sound() says of ordinary replies that they spoil the sum. Return True unless a value "
        "that add() would reject is in it."
    )
    spoiled = changed(contents[0], with_nan)
    try:
        aggregator.add(aggregator.zero(), spoiled)
        return  # it takes NaN, by its own choice
    except RejectedReply:
        pass
    acc = _sum(quick, contents[1:])
    try:
        acc = quick.add(acc, spoiled)
    except RejectedReply:
        return
    assert not quick.is_sound(acc), (
        "with looks_at_values off, add() took a reply with NaN and is_sound() did not tell. Either "
        "reject it in add() always, or let is_sound() find it in the sum."
    )


def _one_reply(aggregator: Fold, contents: Contents) -> None:
    _finite(aggregator, contents[:1])


def _no_reply(aggregator: Fold, contents: Contents) -> None:
    try:
        aggregator.finish(aggregator.zero())
    except AggregationError:
        pass
    except Exception as error:
        raise AssertionError(
            f"finish(zero()) raised {type(error).__name__} ({error}). Without replies, return an "
            f"outcome or raise AggregationError."
        ) from error
    one = _outcome(aggregator, _sum(aggregator, contents[:1]))
    for left, right in ((contents[:1], []), ([], contents[:1])):
        merged = aggregator.merge(_sum(aggregator, left), _sum(aggregator, right))
        assert _outcome(aggregator, merged) == one, (
            "merging with zero() changes a sum. The sum of no replies must be the identity."
        )


def _finite(aggregator: Fold, contents: Contents) -> None:
    try:
        outcome = aggregator.finish(_sum(aggregator, contents))
    except AggregationError:
        return  # it says that there is no outcome
    except ArithmeticError as error:
        raise AssertionError(
            f"finish() raised {type(error).__name__} ({error}). If there is no outcome, raise "
            f"AggregationError."
        ) from error
    key = first_unsound(outcome)
    assert key is None, (
        f"the outcome holds NaN or infinity in {key!r}, though no reply does. Guard divisions by a "
        f"weight or a norm of zero; if there is no outcome, raise AggregationError."
    )


def _zeroed(arrays: dict[str, Any]) -> dict[str, Any]:
    return {key: value * 0 for key, value in arrays.items()}
