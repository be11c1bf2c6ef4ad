import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from umbel.base import content_hash, new_id, new_run_id


def test_ids_are_hexadecimal_and_differ():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in ids)


def test_runs_sort_by_time():
    day = 86_400.0
    first, second = new_run_id(20_000 * day), new_run_id(20_000 * day + 1)
    assert re.fullmatch(r"20241004-000000-[0-9a-f]{4}", first)
    assert first < second


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_a_hash_names_content_however_it_is_cut(parts):
    views = [memoryview(part) for part in parts]
    assert content_hash(views) == hashlib.sha256(b"".join(parts)).hexdigest()
