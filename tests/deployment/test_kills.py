"""``kill -9`` of every kind of process at every kind of step: the run goes on to the same bits.

Some of the kills; ``python benchmarks/kills.py --kills 200`` does them all.
"""

import kills
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_killed_processes_change_nothing(tmp_path):
    found = kills.measure(24, 8, tmp_path, wordy=False)
    assert not found["wrong"], found["wrong"]
    # Some victims were gone by the moment they were to be killed in.
    done = sum(found["kills"].values())
    assert done + found["missed"] == 24
    assert done >= 16
    assert {kind.partition(" at ")[0] for kind in found["kills"]} == set(kills.VICTIMS)


def test_every_victim_is_killed_at_every_moment():
    plans = kills.plans(len(kills.VICTIMS) * len(kills.MOMENTS), 8)
    pairs = [pair for plan in plans for pair in plan]
    assert len(pairs) == len(set(pairs)) == len(kills.VICTIMS) * len(kills.MOMENTS)
    early = set(kills.MOMENTS[:2])
    assert all(pair[1] not in early for plan in plans for pair in plan[1:])
