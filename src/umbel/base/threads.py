"""How many threads the numeric libraries of a worker use.

It is part of the outcome, not only of the speed: a library sums in another order on two threads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from umbel.base.environment import set_environment
from umbel.base.parallel import limit_parallel

THREADS_ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""The variables that these libraries read when they are loaded."""


def set_threads(count: int) -> None:
    """Let the numeric libraries of this process use ``count`` threads from now on."""
    from threadpoolctl import threadpool_limits  # not a cost of `import umbel`

    set_environment(dict.fromkeys(THREADS_ENVIRONMENT, str(count)))
    threadpool_limits(limits=count)
    limit_parallel(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let the numeric libraries use ``count`` threads inside the block."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    with threadpool_limits(limits=count):
        if torch is not None:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)
