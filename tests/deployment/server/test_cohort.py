"""Sums over a cohort: the same bits in whatever order replies come, and never more than one."""

import random
import re
import subprocess
import sys
import threading
import tracemalloc
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
import pytest

from umbel.base import Seeds, content_hash
from umbel.deployment.server import cohort as cohort_file
from umbel.deployment.server.cohort import Cohort
from umbel.deployment.server.mapped import MappedFiles
from umbel.records import (
    ArrayRecord,
    Error,
    ErrorCode,
    Message,
    MetricRecord,
    RecordDict,
    decode,
    encode,
)
from umbel.serverapp import Run
from umbel.updates import NormalizedMean, WeightedMean, fold, reduction_tree

ABSENT = Error(ErrorCode.UNKNOWN, "it never came")
LARGE_BYTES = 80_000_000
KEYS = ("a", "b", "c", "d")


def model(size_bytes, number=0):
    draw = np.random.default_rng(number)
    return ArrayRecord({key: draw.random(size_bytes // 16, np.float32) for key in KEYS})


def replies(folder, files, nodes, size_bytes):
    """Return what the nodes reply, each in a file of its own."""
    contents = []
    for node in range(nodes):
        metrics = MetricRecord({"num-examples": node + 1, "norm": 1.0})
        content = RecordDict({"arrays": model(size_bytes, node), "metrics": metrics})
        path = folder / f"reply-{node}"
        path.write_bytes(b"".join(encode(content)))
        contents.append(decode(files.open(path)))
    return contents


def orders(nodes):
    """Yield orders of arrival, those first that would have many sums begun."""
    blocks = [range(*block) for block in reduction_tree(nodes).blocks]
    yield "backwards", list(reversed(range(nodes)))
    one_by_one = chain.from_iterable(zip_longest(*blocks))
    yield "the first of each block, then the second", [at for at in one_by_one if at is not None]
    yield "one straggler", [*range(1, nodes), 0]
    late = [block[len(block) // 2] for block in blocks]
    yield "a straggler in each block", [*sorted(set(range(nodes)) - set(late)), *late]
    for seed in range(2):
        yield f"any ({seed})", random.Random(seed).sample(range(nodes), nodes)


def cohort_of(folder, files, contents, aggregator):
    run = Run("run", Seeds(1), {}, None, ())
    sent = RecordDict({"arrays": contents[0].array_records["arrays"]})
    messages = [Message(sent, dst_node_id=at, message_type="train") for at in range(len(contents))]
    return Cohort(run, messages, aggregator, files, folder), messages


def folded(folder, files, contents, order, aggregator, failed=(), absent=()):
    cohort, messages = cohort_of(folder, files, contents, aggregator)
    for at in order:
        if at in failed:
            cohort.take(at, Message(Error(ErrorCode.UNKNOWN, "it broke"), reply_to=messages[at]))
        elif at not in absent:
            cohort.take(at, Message(contents[at], reply_to=messages[at]))
    return cohort.folded(1, ABSENT)


def same(mean, other):
    return mean.metrics == other.metrics and mean.arrays == other.arrays


@pytest.mark.parametrize("nodes", [2, 4, 10, 33])
def test_of_a_large_model_one_sum_is_held_whatever_comes_first(tmp_path, monkeypatch, nodes):
    size_bytes = 1_000_000
    monkeypatch.setattr(cohort_file, "_SMALL_BYTES", 0)
    files, aggregator = MappedFiles(), WeightedMean()
    contents = replies(tmp_path, files, nodes, size_bytes)
    wanted = aggregator.finish(fold(aggregator, contents, nodes))
    for name, order in orders(nodes):
        tracemalloc.start()
        outcome = folded(tmp_path, files, contents, order, aggregator)
        peak = tracemalloc.get_traced_memory()[1] / size_bytes
        tracemalloc.stop()
        assert same(outcome.value, wanted), name
        assert 1 <= peak < 1.5, (name, peak)


def test_sums_in_files_that_become_one_by_a_failure_do_not_gather_in_memory(tmp_path, monkeypatch):
    size_bytes, nodes = 1_000_000, 64
    monkeypatch.setattr(cohort_file, "_SMALL_BYTES", 0)
    files, aggregator = MappedFiles(), WeightedMean()
    contents = replies(tmp_path, files, nodes, size_bytes)
    last = {stop - 1 for _, stop in reduction_tree(nodes).blocks[::2]}
    there = [None if at in last else content for at, content in enumerate(contents)]
    wanted = aggregator.finish(fold(aggregator, there, nodes))
    for failed, absent in ((last, ()), ((), last)):
        order = [*sorted(set(range(nodes)) - last), *sorted(last)]
        tracemalloc.start()
        outcome = folded(tmp_path, files, contents, order, aggregator, failed, absent)
        peak = tracemalloc.get_traced_memory()[1] / size_bytes
        tracemalloc.stop()
        assert same(outcome.value, wanted)
        assert peak < 2.5, peak


def test_a_straggler_holds_up_its_own_block_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort_file, "_SMALL_BYTES", 0)
    files, nodes = MappedFiles(), 33
    contents = replies(tmp_path, files, nodes, 4096)
    cohort, messages = cohort_of(tmp_path, files, contents, WeightedMean())
    for at in range(1, nodes):
        cohort.take(at, Message(contents[at], reply_to=messages[at]))
    assert len(cohort._waiting) < reduction_tree(nodes).blocks[0][1]


@pytest.mark.parametrize(("sums_bytes", "waiting"), [(1 << 20, 0), (20 * 64, 12)])
def test_of_a_small_model_as_many_sums_are_begun_as_have_room(
    tmp_path, monkeypatch, sums_bytes, waiting
):
    monkeypatch.setattr(cohort_file, "_SUMS_BYTES", sums_bytes)
    nodes, files = 256, MappedFiles()
    contents = replies(tmp_path, files, nodes, 64)
    cohort, messages = cohort_of(tmp_path, files, contents, WeightedMean())
    for at, _ in reduction_tree(nodes).blocks:  # 32, none of which is full
        cohort.take(at, Message(contents[at], reply_to=messages[at]))
    assert len(cohort._waiting) == waiting


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
@pytest.mark.parametrize("nodes", [2, 4, 10])
def test_a_server_app_has_one_model_in_its_own_memory(tmp_path, request, nodes):
    contents = replies(tmp_path, MappedFiles(), nodes, LARGE_BYTES)
    mean = WeightedMean().finish(fold(WeightedMean(), contents, nodes))
    for name, order in islice(orders(nodes), 4):
        child = subprocess.run(
            [sys.executable, __file__, str(tmp_path), *map(str, order)],
            env={"PYTHONPATH": str(request.config.rootpath / "src")},
            capture_output=True,
            text=True,
            check=True,
        )
        digest, peak = child.stdout.split()
        assert digest == content_hash(encode(RecordDict({"arrays": mean.arrays}))), name
        assert 0.9 < float(peak) / LARGE_BYTES < 1.3, name


def main(folder, *order):
    """Fold in a process of its own; print the hash of the mean, and the peak in bytes."""
    files = MappedFiles()
    contents = [decode(files.open(folder / f"reply-{node}")) for node in range(len(order))]
    before, peaks, done = own_memory(), [], threading.Event()

    def watch():
        while not done.wait(0.001):
            peaks.append(own_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    mean = folded(folder, files, contents, order, WeightedMean()).value
    done.set()
    thread.join()
    print(content_hash(encode(RecordDict({"arrays": mean.arrays}))), max(peaks) - before)


def own_memory():
    """Return the bytes of this process that no file holds, so that they can't be given back."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.parametrize("aggregator", [WeightedMean(), NormalizedMean(WeightedMean(), "norm")])
@pytest.mark.parametrize("small_bytes", [0, 1 << 30])
def test_failures_do_not_change_the_brackets(tmp_path, monkeypatch, aggregator, small_bytes):
    monkeypatch.setattr(cohort_file, "_SMALL_BYTES", small_bytes)
    nodes, files = 17, MappedFiles()
    contents = replies(tmp_path, files, nodes, 4096)
    for seed in range(4):
        draw = random.Random(seed)
        failed, absent = (set(draw.sample(range(nodes), draw.randrange(9))) for _ in range(2))
        gone = failed | absent
        there = [None if at in gone else content for at, content in enumerate(contents)]
        for _, order in orders(nodes):
            outcome = folded(tmp_path, files, contents, order, aggregator, failed, absent)
            wanted = aggregator.finish(fold(aggregator, there, nodes))
            assert same(outcome.value, wanted)
            assert outcome.count == nodes - len(gone)
            assert [node for node, _ in outcome.failures] == sorted(gone)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
