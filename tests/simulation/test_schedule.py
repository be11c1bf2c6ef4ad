from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.simulation.schedule import Schedule

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "give back", "drop"]),
        st.integers(0, 7),
        st.integers(1, 9),
        st.booleans(),
    ),
    max_size=80,
)


@given(st.integers(0, 120), st.integers(1, 8), st.booleans(), STEPS)
def test_every_position_is_handed_out_once(cohort, workers, in_order, steps):
    """Whatever is taken, given back and dropped: it is in one place at a time, and none is lost."""
    schedule = Schedule(cohort, workers, in_order=in_order)
    held: dict[int, list[int]] = {worker: [] for worker in range(8)}
    out: list[int] = []
    for step, worker, count, eager in steps:
        if step == "take":
            taken = schedule.take(worker, count, eager=eager)
            assert len(taken) <= count
            held[worker] += taken
        elif step == "give back":
            back, held[worker] = held[worker][:count], held[worker][count:]
            schedule.give_back(back)
        else:
            out += schedule.drop()
        busy = [position for taken in held.values() for position in taken]
        assert schedule.remaining == cohort - len(busy) - len(out)
    while taken := schedule.take(0, 5, eager=True):
        out += taken
    out += [position for taken in held.values() for position in taken]
    assert sorted(out) == list(range(cohort))
    assert schedule.remaining == 0


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 9))
def test_in_order_means_in_order(cohort, workers, count):
    schedule = Schedule(cohort, workers, in_order=True)
    out: list[int] = []
    while taken := schedule.take(len(out) % workers, count):
        out += taken
    assert out == list(range(cohort))


@given(st.integers(1, 300), st.integers(1, 8), st.integers(1, 40))
def test_workers_that_go_on_as_they_are_asked_to_leave_nothing(cohort, workers, count):
    """A worker may be sent away, but not all of them while something is left."""
    schedule = Schedule(cohort, workers)
    out: list[int] = []
    while schedule.remaining:
        taken = [schedule.take(worker, count) for worker in range(workers)]
        assert any(taken)
        out += [position for part in taken for position in part]
    assert sorted(out) == list(range(cohort))


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_workers_begin_in_regions_of_their_own(workers):
    schedule = Schedule(160, workers)
    first = [schedule.take(worker, 1)[0] for worker in range(workers)]
    assert sorted(first)[0] == 0
    assert all(b - a >= 160 // workers // 2 for a, b in zip(first, first[1:], strict=False))


def test_what_is_given_back_is_handed_out_first():
    schedule = Schedule(10, 2)
    taken = schedule.take(0, 3)
    schedule.give_back(taken)
    assert schedule.take(1, 4) == taken


def test_an_eager_worker_takes_from_one_that_is_held_up():
    schedule = Schedule(8, 2)
    schedule.take(0, 2)  # and its client hangs
    assert schedule.take(1, 4) == [4, 5, 6, 7]
    assert schedule.take(1, 4) == []
    assert schedule.take(1, 4, eager=True) + schedule.take(1, 4, eager=True) == [3, 2]
