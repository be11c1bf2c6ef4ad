import numpy as np
import pytest

from umbel.base import Seeds, StoreFull, content_hash
from umbel.deployment.server.outgoing import Outbox, put, put_copy
from umbel.records import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    RecordDict,
    codec_of,
    decode,
)
from umbel.serverapp import Run
from umbel.store import ObjectStore


def test_a_body_that_has_been_deleted_is_written_again(tmp_path):
    store = ObjectStore(tmp_path)
    outbox = Outbox(Run("run", Seeds(1), {}, None, ()), store)
    model = ArrayRecord([np.arange(3)])

    def send():
        content = RecordDict({"arrays": model})
        return outbox.write([Message(content, dst_node_id=0, message_type=MessageType.TRAIN)], {})

    (first,) = send()
    store.delete(first.body.hash)  # as happens to what no message refers to
    (second,) = send()
    assert second.body == first.body
    assert second.message_id != first.message_id
    written = decode(store.path(second.body.hash).read_bytes())
    np.testing.assert_array_equal(written["arrays"]["0"].numpy(), np.arange(3))


def test_a_message_has_one_name_in_all_codecs_and_a_model_is_written_once_in_each(tmp_path):
    store = ObjectStore(tmp_path)
    content = RecordDict(
        {"arrays": ArrayRecord([np.arange(3)]), "config": ConfigRecord({"lr": 0.5})}
    )

    def send(codecs):
        outbox = Outbox(Run("run", Seeds(1), {}, None, ()), store)
        messages = [Message(content, dst_node_id=i, message_type="train") for i in range(4)]
        return outbox.write(messages, codecs)

    plain, mixed = send({}), send({1: "cbor", 2: "cbor", 3: ""})
    assert [m.message_id for m in plain] == [m.message_id for m in mixed]
    assert [m.codec for m in mixed] == ["", "cbor", "cbor", ""]
    assert len({m.body.hash for m in mixed}) == 2
    for message in mixed:
        codec = codec_of(message.codec)
        arrays = codec.decode(store.path(message.body.hash).read_bytes())
        assert RecordDict({**arrays, **codec.decode(message.records)}) == content
    store.delete(mixed[1].body.hash)
    (again,) = {m.body.hash for m in send(dict.fromkeys(range(4), "cbor"))}
    assert again == mixed[1].body.hash
    assert store.size(again) == mixed[1].body.size_bytes


@pytest.mark.parametrize("size", [0, 5, 9_000_000])
def test_bytes_and_files_become_objects_of_their_hash(tmp_path, size):
    store, data = ObjectStore(tmp_path / "store"), np.random.default_rng(1).bytes(size)
    (tmp_path / "file").write_bytes(data)
    written = put(store, [data[:3], memoryview(data)[3:]])
    assert (written.hash, written.size_bytes) == (content_hash([data]), size)
    assert store.path(written.hash).read_bytes() == data
    assert put_copy(store, tmp_path / "file") == written
    assert store.total_bytes() == size


def test_what_does_not_fit_leaves_nothing_behind(tmp_path):
    store = ObjectStore(tmp_path, max_bytes=3)
    with pytest.raises(StoreFull):
        put(store, [b"four"])
    assert not list(tmp_path.glob("outgoing-*"))
