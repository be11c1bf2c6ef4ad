"""Threads for work on large arrays, which the memory's speed bounds and NumPy does unlocked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

PARALLEL_MIN_BYTES = 8_000_000
"""Below this many bytes, threads cost more than they save."""

_THREADS_MAX = 4


class _Threads:
    """How many threads this process uses, and the pool once it is needed."""

    count = min(_THREADS_MAX, os.cpu_count() or 1)
    pool: ThreadPoolExecutor | None = None


def limit_parallel(count: int) -> None:
    """Use at most ``count`` threads from now on."""
    _Threads.count = max(1, min(_THREADS_MAX, count))
    _Threads.pool = None


def for_each(work: Callable[[T], object], items: Iterable[T], size_bytes: int) -> None:
    """Call ``work`` with every item, on several threads if ``size_bytes`` make it worth while.

    Which thread does what must not matter. An exception is raised once all threads have ended, and
    leaves out some of the other items.

    Examples
    --------
    >>> done = []
    >>> for_each(done.append, [1, 2, 3], size_bytes=0)
    >>> done
    [1, 2, 3]
    """
    if size_bytes < PARALLEL_MIN_BYTES or _Threads.count == 1:
        for item in items:
            work(item)
        return
    if _Threads.pool is None:
        _Threads.pool = ThreadPoolExecutor(_Threads.count - 1, thread_name_prefix="umbel")
    left = iter(list(items))  # of a list: its next item can be taken by several threads

    def work_off() -> None:
        for item in left:
            work(item)

    # This thread works too: it would only wait, and a call out of the pool cannot wait for itself.
    futures = [_Threads.pool.submit(work_off) for _ in range(_Threads.count - 1)]
    try:
        work_off()
    finally:
        wait(futures)
    for future in futures:
        future.result()
