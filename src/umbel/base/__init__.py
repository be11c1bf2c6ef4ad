"""Errors, time, chance, names and bounds: what every other floor may use."""

from umbel.base.clock import SYSTEM_CLOCK, Clock, SystemClock, VirtualClock
from umbel.base.environment import environment, set_environment
from umbel.base.errors import (
    AggregationError,
    AppLoadError,
    ConfigError,
    MissingDependency,
    NodeLost,
    NotEnoughNodes,
    NotEnoughReplies,
    PartitionError,
    PeerError,
    ProtocolError,
    RecordError,
    RejectedReply,
    ReplyTimeout,
    RoundError,
    StateError,
    UmbelError,
    UsageError,
)
from umbel.base.ids import SERVER_NODE_ID, content_hash, new_id, new_run_id
from umbel.base.lifespan import Lifespan, check_lifespan, entered
from umbel.base.limits import (
    HEADER_MAX_BYTES,
    MESSAGE_TTL_S,
    ROUND_TIMEOUT_S,
    TENSORS_MAX_COUNT,
)
from umbel.base.loading import load_object
from umbel.base.parallel import PARALLEL_MIN_BYTES, for_each, limit_parallel
from umbel.base.project import AppProject, Scalar, Setting, SimulationDefaults
from umbel.base.randomstate import random_state, set_random_state
from umbel.base.seeds import Seeds, global_sample, preserved_globals

__all__ = [
    "HEADER_MAX_BYTES",
    "MESSAGE_TTL_S",
    "PARALLEL_MIN_BYTES",
    "ROUND_TIMEOUT_S",
    "SERVER_NODE_ID",
    "SYSTEM_CLOCK",
    "TENSORS_MAX_COUNT",
    "AggregationError",
    "AppLoadError",
    "AppProject",
    "Clock",
    "ConfigError",
    "Lifespan",
    "MissingDependency",
    "NodeLost",
    "NotEnoughNodes",
    "NotEnoughReplies",
    "PartitionError",
    "PeerError",
    "ProtocolError",
    "RecordError",
    "RejectedReply",
    "ReplyTimeout",
    "RoundError",
    "Scalar",
    "Seeds",
    "Setting",
    "SimulationDefaults",
    "StateError",
    "SystemClock",
    "UmbelError",
    "UsageError",
    "VirtualClock",
    "check_lifespan",
    "content_hash",
    "entered",
    "environment",
    "for_each",
    "global_sample",
    "limit_parallel",
    "load_object",
    "new_id",
    "new_run_id",
    "preserved_globals",
    "random_state",
    "set_environment",
    "set_random_state",
]
