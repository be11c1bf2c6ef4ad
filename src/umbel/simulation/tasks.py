"""What the engine and its workers say to each other."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from umbel.base import StateError
from umbel.clientapp import ErrorFields
from umbel.updates import Span

Bytes = bytes | memoryview
Buffers = list[Bytes]
"""A message body as the codec gives it: header first, never joined."""


class AppSpec(NamedTuple):
    """Where a worker finds the client app, and the run that it works for."""

    reference: str | None
    pickled: bytes | None
    app_dir: str | None
    run_id: str
    seed: int
    num_nodes: int
    run_config: dict[str, Any]
    threads: int
    setup: str | None = None


class Task(NamedTuple):
    """One message to one node, less its content."""

    position: int
    node_id: int
    message_id: str
    message_type: str
    group_id: str
    created_at: float
    ttl: float
    content: int
    state: Any


class ContentSpec(NamedTuple):
    """The content of messages: small records as a body, arrays by the blob that holds them."""

    small: bytes
    arrays: tuple[tuple[str, int], ...]
    order: tuple[str, ...]


@dataclass
class Batch:
    """Work for one worker.

    Attributes
    ----------
    job : int
        The call that it belongs to.
    cohort : int
        How many messages that call has; it fixes the reduction tree.
    tasks : list of Task
        The work, in order.
    aggregator : bytes or None
        The pickled aggregator, when replies are to be folded.
    commit : bool
        Whether all partial sums are to be handed over at the end.
    contents, blobs : dict
        Contents and arrays that the worker has not seen yet.
    forget_contents, forget_blobs : list of int
        Those that it will not need again.
    """

    job: int
    cohort: int
    tasks: list[Task]
    aggregator: bytes | None = None
    commit: bool = False
    contents: dict[int, ContentSpec] = field(default_factory=dict)
    blobs: dict[int, Any] = field(default_factory=dict)
    forget_contents: list[int] = field(default_factory=list)
    forget_blobs: list[int] = field(default_factory=list)


@dataclass
class Report:
    """What a worker has to say after a batch.

    Attributes
    ----------
    errors : list of (int, ErrorFields)
        Positions whose client gave no usable reply.
    replies : list of (int, buffers)
        Positions and reply bodies, when nothing is folded.
    states : list of (int, buffers or None)
        Node ids and what their state has become; ``None`` means empty.
    partials : list of (Span, buffers or None)
        Partial sums handed over; ``None`` is a sum of no replies.
    committed : bool
        Whether partial sums and states were handed over; otherwise both are still to come.
    released : list of int
        Blobs that are no longer mapped, so that their memory can be used again.
    elapsed_s : float
        How long the tasks took.
    fault : (bytes, str) or None
        What ended the batch early through no client's doing, as :func:`pack_fault` gives it.
    """

    job: int
    errors: list[tuple[int, ErrorFields]] = field(default_factory=list)
    replies: list[tuple[int, Any]] = field(default_factory=list)
    states: list[tuple[int, Any]] = field(default_factory=list)
    partials: list[tuple[Span, Any]] = field(default_factory=list)
    committed: bool = True
    released: list[int] = field(default_factory=list)
    elapsed_s: float = 0.0
    fault: tuple[bytes, str] | None = None


def pack_fault(error: Exception) -> tuple[bytes, str]:
    """Return an exception and its traceback as plain values."""
    trace = "".join(traceback.format_exception(error))
    try:
        return pickle.dumps(error), trace
    except Exception:
        return pickle.dumps(StateError(f"{type(error).__name__} in a worker")), trace


def unpack_fault(fault: tuple[bytes, str]) -> Exception:
    """Return the exception, with its traceback as a note."""
    pickled, trace = fault
    try:
        error: Exception = pickle.loads(pickled)
    except Exception:
        error = StateError("a worker failed with an exception that cannot be read here")
    error.add_note(f"In a worker:\n{trace}")
    return error
