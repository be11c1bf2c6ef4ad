import numpy as np

from umbel.base import Seeds
from umbel.deployment.server.outgoing import Outbox
from umbel.records import ArrayRecord, Message, MessageType, RecordDict, decode
from umbel.serverapp import Run
from umbel.store import ObjectStore


def test_a_body_that_has_been_deleted_is_written_again(tmp_path):
    store = ObjectStore(tmp_path)
    outbox = Outbox(Run("run", Seeds(1), {}, None, ()), store)
    model = ArrayRecord([np.arange(3)])

    def send():
        content = RecordDict({"arrays": model})
        return outbox.write([Message(content, dst_node_id=0, message_type=MessageType.TRAIN)])

    (first,) = send()
    store.delete(first.body.hash)  # as happens to what no message refers to
    (second,) = send()
    assert second.body == first.body
    assert second.message_id != first.message_id
    written = decode(store.path(second.body.hash).read_bytes())
    np.testing.assert_array_equal(written["arrays"]["0"].numpy(), np.arange(3))
