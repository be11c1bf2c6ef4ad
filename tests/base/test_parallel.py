import threading

import pytest

from umbel.base import PARALLEL_MIN_BYTES, for_each, limit_parallel


@pytest.fixture
def two_threads():
    limit_parallel(2)
    yield
    limit_parallel(4)


def test_every_item_is_worked_on_once(two_threads):
    for size in (0, PARALLEL_MIN_BYTES):
        seen = []
        for_each(seen.append, range(100), size)
        assert sorted(seen) == list(range(100))


def test_large_work_is_done_by_several_threads_at_once(two_threads):
    # Each waits for the other: on one thread this would never end.
    meeting = threading.Barrier(2, timeout=10)
    for_each(lambda _: meeting.wait(), [1, 2], PARALLEL_MIN_BYTES)


def test_small_work_stays_in_the_calling_thread(two_threads):
    threads = set()
    for_each(lambda _: threads.add(threading.current_thread()), range(8), PARALLEL_MIN_BYTES - 1)
    assert threads == {threading.current_thread()}


def test_an_exception_comes_through_after_the_other_items(two_threads):
    done = []

    def work(item):
        if item == 1:
            raise ValueError("no")
        done.append(item)

    with pytest.raises(ValueError, match="no"):
        for_each(work, range(4), PARALLEL_MIN_BYTES)
    assert sorted(done) == [0, 2, 3]
