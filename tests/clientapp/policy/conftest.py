import numpy as np
import pytest

from umbel.clientapp import parse_policy
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

BASE = 'contact = "dpo@clinic"\n[messages]\ntypes = ["train"]\n'


@pytest.fixture
def policy():
    """Return a policy that answers training, with more tables."""
    return lambda text="", messages="": parse_policy(f"{BASE}{messages}\n{text}", "policy.toml")


def content(arrays=None, metrics=None, config=None):
    records = {}
    if arrays is not None:
        held = {k: np.asarray(v) for k, v in arrays.items()}
        records["arrays"] = ArrayRecord(held)
    if metrics is not None:
        records["metrics"] = MetricRecord(metrics)
    if config is not None:
        records["config"] = ConfigRecord(config)
    return RecordDict(records)


@pytest.fixture(name="content")
def content_of():
    """Return a function that makes content out of plain values."""
    return content
