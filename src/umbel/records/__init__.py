"""What travels and what is kept: arrays, metrics, settings, messages, and their bytes."""

from umbel.records.array import Array
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.codec import decode, encode, size_bytes
from umbel.records.codecs import DEFAULT_CODEC, Codec, codec_names, codec_of
from umbel.records.configrecord import ConfigRecord, ConfigRecordValues, ConfigScalar
from umbel.records.context import Context, UserConfig, UserConfigValue
from umbel.records.mapping import MissingKey
from umbel.records.message import Error, ErrorCode, Message
from umbel.records.metadata import MessageType, Metadata, check_message_type
from umbel.records.metricrecord import MetricRecord, MetricRecordValues, MetricScalar
from umbel.records.recorddict import Record, RecordDict, RecordsOfKind

__all__ = [
    "DEFAULT_CODEC",
    "Array",
    "ArrayRecord",
    "Codec",
    "ConfigRecord",
    "ConfigRecordValues",
    "ConfigScalar",
    "Context",
    "Error",
    "ErrorCode",
    "Message",
    "MessageType",
    "Metadata",
    "MetricRecord",
    "MetricRecordValues",
    "MetricScalar",
    "MissingKey",
    "Record",
    "RecordDict",
    "RecordsOfKind",
    "UserConfig",
    "UserConfigValue",
    "check_message_type",
    "codec_names",
    "codec_of",
    "decode",
    "encode",
    "size_bytes",
]
