import numpy as np
import pytest

from umbel.base import RejectedReply
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict, decode, encode
from umbel.updates import Both, Collect, WeightedMean


def reply(loss, **config):
    return RecordDict(
        {
            "arrays": ArrayRecord([np.ones(2)]),
            "metrics": MetricRecord({"num-examples": 1, "loss": loss}),
            "config": ConfigRecord(config),
        }
    )


def travelled(aggregator, acc):
    return aggregator.unpack(decode(b"".join(encode(aggregator.pack(acc)))))


def test_replies_come_back_in_order_without_their_arrays():
    collect = Collect()
    left = collect.add(collect.zero(), reply(1.0, site="a"))
    right = collect.add(collect.add(collect.zero(), reply(2.0)), reply(3.0, raw=b"\0"))
    replies = collect.finish(collect.merge(travelled(collect, left), travelled(collect, right)))
    assert [r["metrics"]["loss"] for r in replies] == [1.0, 2.0, 3.0]
    assert [dict(r["config"]) for r in replies] == [{"site": "a"}, {}, {"raw": b"\0"}]
    assert all(list(r) == ["metrics", "config"] for r in replies)


def test_more_than_ten_replies_keep_their_order():
    collect = Collect()
    acc = collect.zero()
    for loss in range(12):
        acc = collect.add(acc, reply(float(loss)))
    replies = travelled(collect, acc)
    assert [r["metrics"]["loss"] for r in replies] == list(map(float, range(12)))


def test_replies_of_nothing_are_counted():
    collect = Collect()
    acc = collect.add(collect.add(collect.zero(), RecordDict()), reply(1.0))
    assert [len(r) for r in travelled(collect, acc)] == [0, 2]
    assert travelled(collect, collect.zero()) == []


def test_a_record_that_is_used_again_does_not_change_what_was_kept():
    collect, content = Collect(), reply(1.0)
    acc = collect.add(collect.zero(), content)
    content["metrics"]["loss"] = 9.0
    assert collect.finish(acc)[0]["metrics"]["loss"] == 1.0


def test_what_the_first_rejects_the_second_never_sees():
    both = Both(WeightedMean(), Collect())
    acc = both.add(both.zero(), reply(1.0))
    with pytest.raises(RejectedReply):
        both.add(acc, RecordDict({"arrays": ArrayRecord([np.ones(2)])}))
    mean, replies = both.finish(travelled(both, acc))
    assert (mean.count, len(replies)) == (1, 1)
