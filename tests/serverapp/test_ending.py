import hashlib
from contextlib import closing

import numpy as np
import pytest

from umbel.records import ArrayRecord, RecordDict, encode
from umbel.serverapp import Result, Run, StoredArrays, conclude


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_model_is_written_and_hashed_once(tmp_path, monkeypatch, is_stored):
    result = Result(ArrayRecord({"w": np.arange(3.0)}))
    body = b"".join(encode(RecordDict({"arrays": result.arrays})))
    digest = hashlib.sha256(body).hexdigest()
    if is_stored:
        monkeypatch.delattr("umbel.serverapp.ending.content_hash")
    kept = StoredArrays(tmp_path / "object", digest, len(body)) if is_stored else None
    with closing(Run(folder=tmp_path)) as run:
        assert conclude(run, result, lambda arrays: kept) == (0, digest)
    assert (tmp_path / "model.safetensors").read_bytes() == body
