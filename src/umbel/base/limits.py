"""Bounds that protect a process from what others send it; each name ends in its unit."""

HEADER_MAX_BYTES = 64 * 1024 * 1024
"""The largest header of a message body that is read."""

TENSORS_MAX_COUNT = 1_000_000
"""The largest number of arrays in one message body."""

MESSAGE_TTL_S = 43_200.0
"""How long a message stays valid unless its sender says otherwise."""

ROUND_TIMEOUT_S = 3_600.0
"""How long a round waits for replies unless its caller says otherwise."""
