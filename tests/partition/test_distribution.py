import numpy as np
import pytest

from umbel.base import PartitionError
from umbel.partition import distribution, label_counts

LABELS = np.arange(1000) % 10
TABLE = np.random.default_rng(0).lognormal(0.0, 2.0, (10, 4))
OPTIONS = {"num_unique_labels_per_partition": 2}


def counts(table=TABLE, **options):
    return label_counts(distribution(LABELS, 20, table, **OPTIONS | options), LABELS).counts


@pytest.mark.parametrize("before", [0, 5])
def test_all_samples_go_to_the_holders_by_the_table(before):
    found = counts(preassigned_num_samples_per_label=before)
    assert found.sum(axis=0).tolist() == [100] * 10
    assert ((found > 0).sum(axis=1) <= 2).all()
    wanted = before + TABLE[3] / TABLE[3].sum() * (100 - 4 * before)
    # Client i has the classes i and i + 1, modulo 10.
    assert np.abs(found[[2, 3, 12, 13], 3] - wanted).max() < 1
    assert (found[[2, 3, 12, 13], 3] >= before).all()


def test_amounts_as_they_are():
    table = np.full((10, 4), 7.9)
    found = counts(table, rescale=False, preassigned_num_samples_per_label=1)
    assert found[0].tolist() == [8, 8] + [0] * 8
    assert found.sum() == 10 * 4 * 8


def test_shuffle_and_seed():
    first, again, other = (distribution(LABELS, 20, TABLE, **OPTIONS, seed=s) for s in (1, 1, 2))
    kept = distribution(LABELS, 20, TABLE, **OPTIONS, shuffle=False)
    lists = [[part.tolist() for part in parts] for parts in (first, again, other)]
    assert lists[0] == lists[1] != lists[2]
    assert all((np.diff(part) > 0).all() for part in kept)
    assert (label_counts(kept, LABELS).counts == label_counts(first, LABELS).counts).all()


@pytest.mark.parametrize(
    ("table", "options", "text"),
    [
        (TABLE[:, :3], {}, r"shape \(10, 3\), not \(10, 4\)"),
        (-TABLE, {}, "not negative"),
        (TABLE * np.nan, {}, "finite"),
        ("much", {}, "must hold numbers"),
        (TABLE * 0, {}, "sums to zero"),
        (TABLE, {"num_unique_labels_per_partition": 11}, "evenly"),
        (TABLE, {"num_unique_labels_per_partition": 0}, "at least 1"),
        (TABLE, {"preassigned_num_samples_per_label": 26}, "104 are asked for"),
        (TABLE * 0 + 26, {"rescale": False}, "104 are asked for"),
    ],
)
def test_bad_arguments(table, options, text):
    with pytest.raises(PartitionError, match=text):
        counts(table, **options)


def test_clients_that_are_no_multiple_of_the_labels_take_turns():
    parts = distribution(LABELS, 5, np.ones((10, 1)), **OPTIONS)
    found = [np.unique(LABELS[part]).tolist() for part in parts]
    assert found == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_labels_that_cannot_be_shared_out_evenly():
    with pytest.raises(PartitionError, match="3 partitions of 1 labels do not share out 10"):
        distribution(LABELS, 3, TABLE, num_unique_labels_per_partition=1)
