from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.simulation.states import StateStore


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.none() | st.binary(max_size=60)), max_size=60),
    st.integers(0, 200),
)
def test_it_is_a_dictionary(puts, max_bytes):
    """Wherever a state lies, the last one that was put is the one that is got."""
    store, model = StateStore(max_bytes), {}
    for node, state in puts:
        store.put(node, state)
        model[node] = state
        for other in range(13):
            got = store.get(other)
            assert (None if got is None else bytes(got)) == model.get(other)
    store.close()


@pytest.fixture
def spilling(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_not_used_for_longest_lies_on_disk(spilling):
    store = StateStore(max_bytes=250)
    store.put(1, bytes(100))
    store.put(2, bytes(100))
    store.get(1)
    store.put(3, bytes(100))
    assert [path.name for path in files(spilling)] == ["2"]
    store.put(2, None)
    assert files(spilling) == []
    store.close()


def test_a_state_larger_than_the_memory_lies_on_disk(spilling):
    store = StateStore(max_bytes=10)
    store.put(1, bytes(100))
    assert len(files(spilling)) == 1
    assert store.get(1) == bytes(100)
    store.close()


def test_nothing_is_left_behind(spilling):
    store = StateStore(max_bytes=0)
    for node in range(300):
        store.put(node, b"x")
    assert len(files(spilling)) == 300
    store.close()
    assert list(spilling.iterdir()) == []
    assert store.get(5) is None


def test_nothing_is_written_while_it_fits(spilling):
    store = StateStore()
    for node in range(1000):
        store.put(node, bytes(100))
    store.close()
    assert list(spilling.iterdir()) == []


@pytest.mark.slow
def test_a_hundred_thousand_nodes_within_the_bound(spilling):
    limit = 10_000_000
    store = StateStore(max_bytes=limit)
    tracemalloc.start()
    for node in range(100_000):
        store.put(node, b"%08d" % node + bytes(112))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What is on disk costs a number in a set; what is held, its bytes and an entry.
    assert held < 4 * limit
    for node in range(0, 100_000, 11):
        assert bytes(store.get(node) or b"")[:8] == b"%08d" % node
    assert len(files(spilling)) == 100_000 - limit // 120
    store.close()
    assert list(spilling.iterdir()) == []
