"""Nothing waits for longer than it was told to."""

from __future__ import annotations

import math
import time

import pytest

from umbel.updates import Collect

pytestmark = pytest.mark.slow


def test_a_client_over_its_limit_is_ended_and_the_round_goes_on(learn, told, digest):
    begin = time.monotonic()
    result = learn("hang", victims=[3, 7], client_timeout_s=0.3)
    assert time.monotonic() - begin < 4
    assert told(result) == [(r, n, "ClientTimeout") for r in (1, 2) for n in (3, 7)]
    assert digest(result) == digest(learn("fail", victims=[3, 7], backend="inprocess"))
    assert "longer than 0.3 s" in result.failures[0].message


@pytest.mark.parametrize("workers", [2, 3])
def test_a_round_over_its_limit_blames_who_did_not_answer(workers, learn, told, digest):
    """Replies that lay in the same worker are in the sum all the same."""
    begin = time.monotonic()
    result = learn("hang", nodes=20, victims=[3], timeout=0.4, workers=workers)
    assert time.monotonic() - begin < 6
    assert told(result) == [(1, 3, "ReplyTimeout"), (2, 3, "ReplyTimeout")]
    assert digest(result) == digest(learn("fail", nodes=20, victims=[3], backend="inprocess"))


def test_when_all_workers_hang_the_rest_is_given_up(learn, told):
    result = learn("hang", nodes=20, victims=[3, 12], timeout=0.4, rounds=1)
    failed = {node for _, node, _ in told(result)}
    assert {3, 12} < failed <= {*range(3, 10), *range(12, 20)}


def test_a_client_that_hangs_only_the_second_time_is_given_up_too(run_main, requests):
    """What is run again after a deadline has a deadline itself."""

    def main(grid):
        messages = requests(range(4), "train", do="hang_later", nodes=[0])
        messages += requests([9], "train", do="hang")
        begin = time.monotonic()
        folded = grid.fold(messages, Collect(), timeout=0.4)
        return [node for node, _ in folded.failures], time.monotonic() - begin

    failed, seconds = run_main(main, workers=1)
    assert 0 in failed
    assert 9 in failed
    assert seconds < 6


def test_replies_that_came_in_time_are_returned(run_main, requests):
    def main(grid):
        messages = requests([5], "train", do="hang") + requests(range(5), "query")
        begin = time.monotonic()
        replies = grid.send_and_receive(messages, timeout=0.5)
        nodes = [reply.content["who"]["node"] for reply in replies]
        failures = [(f.node_id, f.kind) for f in grid.run.failures]
        return nodes, failures, time.monotonic() - begin

    nodes, failures, seconds = run_main(main)
    assert nodes == [0, 1, 2, 3, 4]
    assert failures == [(5, "ReplyTimeout")]
    assert seconds < 3


def test_the_grid_works_after_a_timeout(run_main, requests):
    def main(grid):
        first = grid.fold(requests(range(6), "train", do="hang"), Collect(), timeout=0.2)
        second = grid.fold(requests(range(6), "query"), Collect(), timeout=60)
        return first.count, len(first.failures), first.value, second.count

    assert run_main(main) == (0, 6, None, 6)


@pytest.mark.parametrize("fold", [True, False])
def test_a_round_in_one_process_stops_between_clients(fold, run_main, requests):
    """There nobody can end a client that runs; the others are given up."""

    def main(grid):
        messages = requests(range(2000), "query")
        if fold:
            folded = grid.fold(messages, Collect(), timeout=1e-6)
            return folded.count + len(folded.failures), len(folded.failures)
        replies = grid.send_and_receive(messages, timeout=1e-6)
        return len(replies) + len(grid.run.failures), len(grid.run.failures)

    total, failed = run_main(main, 2000, "inprocess")
    assert total == 2000
    assert failed > 0


def test_time_may_be_without_limit(learn, digest):
    expected = digest(learn(backend="inprocess"))
    assert digest(learn(timeout=math.inf, client_timeout_s=math.inf)) == expected
