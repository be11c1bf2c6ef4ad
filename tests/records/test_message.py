import pickle

import numpy as np
import pytest

from umbel.base import MESSAGE_TTL_S, SERVER_NODE_ID, SYSTEM_CLOCK, RecordError
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.context import Context
from umbel.records.message import Error, ErrorCode, Message
from umbel.records.metadata import MessageType, Metadata, check_message_type
from umbel.records.metricrecord import MetricRecord
from umbel.records.recorddict import RecordDict


@pytest.fixture
def request_():
    message = Message(RecordDict(), 3, MessageType.TRAIN, group_id="round-1", ttl=60.0)
    message.metadata.run_id = "run"
    return message


class TestForms:
    def test_a_request_comes_from_the_server(self):
        before = SYSTEM_CLOCK.now()
        message = Message(RecordDict(), dst_node_id=3, message_type="evaluate.fast")
        metadata = message.metadata
        assert (metadata.src_node_id, metadata.dst_node_id) == (SERVER_NODE_ID, 3)
        assert metadata.message_type == "evaluate.fast"
        assert metadata.ttl == MESSAGE_TTL_S
        assert metadata.reply_to_message_id == ""
        assert before <= metadata.created_at <= SYSTEM_CLOCK.now()
        assert metadata.delivered_at is None

    def test_a_reply_goes_back_where_the_request_came_from(self, request_):
        reply = Message(RecordDict(), reply_to=request_)
        assert reply.metadata.src_node_id == 3
        assert reply.metadata.dst_node_id == SERVER_NODE_ID
        assert reply.metadata.run_id == "run"
        assert reply.metadata.group_id == "round-1"
        assert reply.metadata.message_type == MessageType.TRAIN
        assert reply.metadata.reply_to_message_id == request_.metadata.message_id

    @pytest.mark.parametrize("form", ["positional", "keyword"])
    def test_an_error_is_a_reply(self, request_, form):
        error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "no data", kind="ValueError")
        if form == "positional":
            reply = Message(error, reply_to=request_)
        else:
            reply = Message(error=error, reply_to=request_)
        assert reply.has_error()
        assert not reply.has_content()
        assert reply.error is error

    def test_the_envelope_is_taken_whole(self, request_):
        message = Message(RecordDict(), metadata=request_.metadata)
        assert message.metadata is request_.metadata

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({}, "either content or an error"),
            ({"content": RecordDict()}, "a request needs"),
            ({"content": RecordDict(), "dst_node_id": 1}, "a request needs"),
            ({"content": {}, "dst_node_id": 1, "message_type": "train"}, "got dict"),
            ({"content": RecordDict(), "dst_node_id": 1, "message_type": "fit"}, "message type"),
            ({"error": Error(0), "dst_node_id": 1, "message_type": "train"}, "is it a reply"),
            ({"content": RecordDict(), "error": Error(0)}, "either content or an error"),
        ],
    )
    def test_other_forms_are_refused(self, arguments, text):
        with pytest.raises(RecordError, match=text):
            Message(**arguments)

    def test_a_reply_has_no_address_of_its_own(self, request_):
        with pytest.raises(RecordError, match="from the request"):
            Message(RecordDict(), 5, reply_to=request_)
        with pytest.raises(RecordError, match="from the request"):
            Message(RecordDict(), reply_to=request_, group_id="x")
        with pytest.raises(RecordError, match="already says"):
            Message(RecordDict(), metadata=request_.metadata, ttl=1.0)


class TestTimeToLive:
    @pytest.mark.parametrize("ttl", [None, 1000.0])
    def test_a_reply_is_valid_as_long_as_its_request(self, request_, ttl):
        request_.metadata.created_at -= 20.0
        reply = Message(RecordDict(), reply_to=request_, ttl=ttl)
        assert 39.0 < reply.metadata.ttl <= 40.0

    def test_a_reply_may_be_valid_for_less(self, request_):
        assert Message(RecordDict(), reply_to=request_, ttl=5.0).metadata.ttl == 5.0

    def test_a_reply_to_a_request_of_the_past_is_not_valid(self, request_):
        request_.metadata.created_at -= 100.0
        assert Message(RecordDict(), reply_to=request_).metadata.ttl == 0.0

    @pytest.mark.parametrize("ttl", [0, -1.0, float("nan")])
    def test_it_is_positive(self, ttl):
        with pytest.raises(RecordError, match="more than 0 seconds"):
            Message(RecordDict(), 1, "train", ttl=ttl)


class TestContent:
    def test_it_can_be_replaced(self, request_):
        content = RecordDict({"metrics": MetricRecord({"loss": 0.5})})
        request_.content = content
        assert request_.content is content
        with pytest.raises(RecordError, match="got dict"):
            request_.content = {}

    def test_asking_an_error_for_content_says_what_the_error_was(self, request_):
        error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "no data", kind="ValueError")
        reply = Message(error, reply_to=request_)
        with pytest.raises(RecordError, match=r"ValueError: no data \(node: 3\)"):
            _ = reply.content
        with pytest.raises(RecordError, match="takes no content"):
            reply.content = RecordDict()

    def test_asking_content_for_an_error_is_an_error(self, request_):
        with pytest.raises(RecordError, match="carries content and no error"):
            _ = request_.error

    def test_an_error_code_of_a_later_version_is_shown_as_a_number(self):
        assert str(Error(99, "new")) == "error (99): new"


class TestMetadata:
    def test_the_id_is_drawn_once(self):
        first, second = Metadata(), Metadata()
        assert first.message_id == first.message_id
        assert first.message_id != second.message_id
        first.message_id = "mine"
        assert first.message_id == "mine"

    def test_both_sides_of_a_pickle_have_the_same_ids(self, request_):
        reply = Message(RecordDict({"a": ArrayRecord([np.zeros(2)])}), reply_to=request_)
        again = pickle.loads(pickle.dumps(reply))
        assert again.metadata == reply.metadata
        assert again.content == reply.content
        assert again.metadata.reply_to_message_id == request_.metadata.message_id

    def test_it_is_written_and_read_back_as_a_dictionary(self, request_):
        fields = request_.metadata.as_dict()
        assert Metadata(**fields) == request_.metadata
        assert Metadata(**fields | {"ttl": 1.0}) != request_.metadata
        assert request_.metadata != fields

    def test_the_text_shows_every_field(self, request_):
        text = repr(Message(Error(0, "gone"), reply_to=request_))
        assert "gone" in text
        assert "reply_to_message_id=" in text


@pytest.mark.parametrize("text", ["train", "evaluate", "query", "system", "train.warm_up"])
def test_message_types(text):
    assert check_message_type(text) == text


@pytest.mark.parametrize(
    "text", ["", "fit", "train.", "train.a.b", "train.a-b", "system.x", ".x", None, 3]
)
def test_bad_message_types(text):
    with pytest.raises(RecordError, match="not a message type"):
        check_message_type(text)
    with pytest.raises(ValueError, match="not a message type"):
        Metadata(message_type=text)


def test_each_context_has_a_state_of_its_own():
    first, second = Context("run", 1), Context("run", 2)
    first.state["metrics"] = MetricRecord()
    assert not second.state
    assert second.series_id == 0


def test_a_reply_is_to_a_message():
    with pytest.raises(RecordError, match="reply_to is a int, not a Message"):
        Message(RecordDict(), reply_to=3)
