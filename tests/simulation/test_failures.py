"""A client can do what it likes: it costs its own reply, and nothing else."""

from __future__ import annotations

import time

import psutil
import pytest

from umbel.base import AggregationError, NodeLost, NotEnoughReplies
from umbel.strategies import FedAvg

pytestmark = pytest.mark.slow

KINDS = {
    "fail": "ValueError",
    "fail_without_text": "Unprintable",
    "fail_with_odd_text": "Verbose",
    "answer_oddly": "Error",
    "interrupt": "KeyboardInterrupt",
    "leave": "SystemExit",
    "end_process": "ExitCode",
    "be_killed": "SIGKILL",
    "be_killed_as_parent": "SIGKILL",
    "answer_nothing": "UsageError",
    "answer_nan": "RejectedReply",
    "answer_other_keys": "RejectedReply",
    "spoil_state": "AttributeError",
    "write_in_place": "ValueError",
}
IN_PROCESS = {
    do: kind
    for do, kind in KINDS.items()
    if do not in ("interrupt", "end_process", "be_killed", "be_killed_as_parent")
}


@pytest.fixture(scope="module")
def without(learn, digest):
    """The bits of a run in which clients 3 and 7 raised."""
    return digest(learn("fail", backend="inprocess", victims=[3, 7]))


@pytest.mark.parametrize("do", KINDS)
def test_what_a_client_does_costs_its_own_reply_alone(do, learn, told, digest, without):
    begin = time.monotonic()
    result = learn(do, victims=[3, 7])
    assert told(result) == sorted((r, n, KINDS[do]) for r in (1, 2) for n in (3, 7))
    assert digest(result) == without
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("do", IN_PROCESS)
def test_the_same_in_one_process(do, learn, told, digest, without):
    result = learn(do, backend="inprocess", victims=[3, 7])
    assert told(result) == sorted((r, n, KINDS[do]) for r in (1, 2) for n in (3, 7))
    assert digest(result) == without


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("nodes", [5, 40, 257])
def test_a_killed_client_costs_the_same_bits_as_one_that_raises(
    workers, nodes, learn, told, digest
):
    victims = [0, 1, nodes // 2, nodes - 1]
    raised = learn("fail", nodes, "inprocess", victims=victims)
    killed = learn("be_killed", nodes, workers=workers, victims=victims)
    assert digest(killed) == digest(raised)
    assert told(killed) == [(r, n, "SIGKILL") for r in (1, 2) for n in sorted(set(victims))]


def test_a_failure_says_where_and_why(learn):
    failure = learn("fail", victims=[3], rounds=1).failures[0]
    assert (failure.server_round, failure.phase, failure.node_id) == (1, "train", 3)
    assert failure.message == "no data on node 3"
    assert "in fail" in failure.traceback


def test_an_end_of_a_process_says_how(learn):
    assert "exit code 3" in learn("end_process", victims=[3], rounds=1).failures[0].message
    assert "SIGKILL" in learn("be_killed", victims=[3], rounds=1).failures[0].message


def test_when_every_client_dies_the_run_says_so(learn):
    with pytest.raises(NotEnoughReplies, match=r"0 of 10.*SIGKILL"):
        learn("be_killed")


def test_replies_that_do_not_fit_together_end_the_run_and_not_a_worker(learn, capfd):
    class Anything(FedAvg):
        def train_aggregator(self, server_round):
            aggregator = super().train_aggregator(server_round)
            aggregator.shapes = {}
            return aggregator

    strategy = Anything(fraction_evaluate=0)
    with pytest.raises(AggregationError, match="different arrays"):
        learn("answer_other_keys", strategy=strategy)
    assert capfd.readouterr().err == ""


def test_an_aggregator_that_fails_ends_its_call_alone(run_main, requests):
    """The next call works, with the same workers."""
    from umbel.updates import Collect

    class Picky(Collect):
        def merge(self, left, right):
            raise ZeroDivisionError("no merging today")

    def main(grid):
        processes = {p.pid for p in psutil.Process().children(recursive=True)}
        with pytest.raises(ZeroDivisionError, match="today") as caught:
            grid.fold(requests(range(40)), Picky())
        folded = grid.fold(requests(range(40)), Collect())
        same = processes == {p.pid for p in psutil.Process().children(recursive=True)}
        return folded.count, len(folded.value), same, caught.value.__notes__

    count, replies, same, notes = run_main(main, 40)
    assert (count, replies, same) == (40, 40, True)
    assert "In a worker" in notes[0]


def test_a_client_that_closes_its_output_costs_nothing(learn, digest):
    assert digest(learn("close_stdout")) == digest(learn())


def test_a_client_that_dies_when_it_is_run_again_fails_once(learn, digest):
    """It runs again because of another's NaN, after its own reply was counted."""
    done = []

    def watch(event):
        if event.name == "progress":
            done.append(event.data["done"])

    options = {"nodes": 12, "victims": [3, 5], "rounds": 1, "workers": 1}
    result = learn("spoil_or_die_later", run={"observers": [watch]}, **options)
    assert [(f.node_id, f.kind) for f in result.failures] == [(3, "RejectedReply"), (5, "SIGKILL")]
    assert max(done) == 12
    assert digest(result) == digest(learn("fail", backend="inprocess", **options))


def test_an_aggregator_that_ends_its_worker_is_not_tried_for_ever(run_main, requests):
    """Its clients are not to blame, and batches that hand nothing over are no progress."""
    from umbel.updates import Collect

    class Deadly(Collect):
        def pack(self, acc):
            import os

            os._exit(3)

    with pytest.raises(NodeLost, match="exit code 3"):
        run_main(lambda grid: grid.fold(requests(range(20)), Deadly()), 20, workers=1)


def test_workers_that_are_killed_while_idle_are_replaced(run_main, requests):
    from umbel.updates import Collect

    def main(grid):
        counts = []
        for _ in range(4):
            template = psutil.Process().children()[0]
            killed = template.children()
            for worker in killed:
                worker.kill()
            psutil.wait_procs(killed, timeout=0)
            counts.append(grid.fold(requests(range(20)), Collect()).count)
        return counts

    assert run_main(main, 20, workers=8) == [20] * 4


def test_a_killed_template_is_replaced(run_main, requests):
    from umbel.updates import Collect

    def main(grid):
        counts = []
        for _ in range(3):
            template = psutil.Process().children()[0]
            template.kill()
            folded = grid.fold(requests(range(20)), Collect())
            # Clients that ran at that moment died with it.
            counts.append(folded.count + len(folded.failures))
        return counts

    assert run_main(main, 20, workers=3) == [20] * 3


def test_a_node_keeps_the_state_from_before_it_failed(run_main, requests):
    def main(grid):
        replies = []
        for i in range(2):
            replies += grid.send_and_receive(requests([4], "query.count", i=i))
        replies += grid.send_and_receive(requests([4], "train", do="be_killed"))
        replies += grid.send_and_receive(requests([4], "query.count", i=9))
        return [r.error.kind if r.has_error() else r.content["seen"]["order"] for r in replies]

    assert run_main(main) == [[0], [0, 1], "SIGKILL", [0, 1, 9]]


def test_dead_workers_leave_no_descriptor_behind(run_main, requests):
    """Neither of their channels nor of the models that they had mapped."""
    import os

    import numpy as np

    from umbel.records import ArrayRecord
    from umbel.updates import Collect

    def main(grid):
        counts = []
        for i in range(10):
            model = ArrayRecord([np.full(50_000, float(i))])
            messages = requests(range(4), "train", do="be_killed", nodes=[1])
            for message in messages:
                message.content["arrays"] = model
            folded = grid.fold(messages, Collect())
            assert len(folded.failures) == 1
            counts.append(len(os.listdir("/proc/self/fd")))
        return counts

    counts = run_main(main, 4)
    assert max(counts[5:]) <= counts[4] + 1  # once memory is used again


@pytest.mark.parametrize("nodes", [60, 700])
def test_workers_killed_at_any_moment(nodes, learn, digest):
    """Whoever was running fails with the signal's name; the others are as if it had raised."""
    seen = []

    def kill_one(event):
        if event.name == "progress":
            seen.append(event)
            workers = psutil.Process().children()[0].children()
            if len(seen) % 3 == 0 and len(seen) < 40 and workers:
                workers[len(seen) % len(workers)].kill()

    result = learn(nodes=nodes, rounds=1, workers=3, run={"observers": [kill_one]})
    assert len(seen) > 9
    assert {failure.kind for failure in result.failures} <= {"SIGKILL"}
    victims = sorted(failure.node_id for failure in result.failures)
    assert len(set(victims)) == len(victims) < 15
    expected = learn("fail" if victims else "learn", nodes, "inprocess", victims=victims, rounds=1)
    assert digest(result) == digest(expected)
