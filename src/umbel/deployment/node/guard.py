"""The owner's policy at work: around all that an app does, in the process where no app runs.

What a worker hands over is read once into this process's own memory, checked there, and written
anew. So it does not matter what the worker, or what it started, does to its files afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from umbel.base import (
    HEADER_MAX_BYTES,
    SYSTEM_CLOCK,
    Clock,
    PolicyRefused,
    ProtocolError,
    content_hash,
    write_hashed,
)
from umbel.clientapp import (
    Account,
    Policy,
    Request,
    check_budget,
    check_content,
    check_request,
    message_content,
    refused,
    release,
    told_failure,
)
from umbel.deployment.node.journal import Failure, Journal, Outcome
from umbel.deployment.node.ledger import PolicyLedger
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ErrorCode, RecordDict, decode, encode

LEDGER_NAME = "policy-ledger.jsonl"
