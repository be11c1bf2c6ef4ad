import pytest

from umbel.base import PartitionError
from umbel.partition import vertical_even, vertical_sizes

COLUMNS = [f"c{i}" for i in range(8)] + ["id", "label", "noise"]
ROLES = {"active_party_columns": ["label"], "drop_columns": ["noise"], "shared_columns": ["id"]}


def names(parts):
    return [[COLUMNS[place] for place in part] for part in parts]


def test_every_column_is_someones():
    parts = names(vertical_even(COLUMNS, 3))
    assert sorted(name for part in parts for name in part) == sorted(COLUMNS)
    assert sorted(map(len, parts)) == [3, 4, 4]
    assert parts != names(vertical_even(COLUMNS, 3, seed=1))
    assert parts == names(vertical_even(COLUMNS, 3))


@pytest.mark.parametrize(
    ("mode", "has_label"),
    [
        ("add_to_first", [True, False]),
        ("add_to_last", [False, True]),
        ("create_as_first", [True, False, False]),
        ("create_as_last", [False, False, True]),
        ("add_to_all", [True, True]),
        (0, [True, False]),
    ],
)
def test_roles(mode, has_label):
    parts = names(vertical_even(COLUMNS, 2, active_party_columns_mode=mode, **ROLES))
    assert ["label" in part for part in parts] == has_label
    assert all("id" in part and "noise" not in part for part in parts)
    free = [name for part in parts for name in part if name.startswith("c")]
    assert sorted(free) == COLUMNS[:8]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ([1, 3], [1, 3]),
        ([0.25, 0.5], [2, 4]),
        ([0.3, 0.3, 0.4], [2, 2, 4]),
        ([0.1] * 7 + [0.3], None),
    ],
)
def test_sizes(sizes, found):
    if found is None:
        with pytest.raises(PartitionError, match="at least 1, got 0"):
            vertical_sizes(COLUMNS[:8], sizes)
        return
    assert [len(part) for part in vertical_sizes(COLUMNS[:8], sizes)] == found


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"active_party_columns_mode": "add_to_nobody"}, "unknown active_party_columns_mode"),
        ({"active_party_columns_mode": 2}, "unknown active_party_columns_mode"),
        ({"drop_columns": ["x"]}, "there is no column 'x'"),
        ({"drop_columns": ["id"], "shared_columns": ["id"]}, "two roles"),
        ({"drop_columns": COLUMNS[:10]}, "only 1 samples"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(PartitionError, match=text):
        vertical_even(COLUMNS, 2, **options)


@pytest.mark.parametrize("sizes", [[0.6, 0.6], [0.5, -0.1], [5, 7], []])
def test_bad_sizes(sizes):
    with pytest.raises(PartitionError):
        vertical_sizes(COLUMNS, sizes)
