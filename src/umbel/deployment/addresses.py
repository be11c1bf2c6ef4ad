"""Where a server listens, as people write it: ``host:port``."""

from __future__ import annotations

import re

from umbel.base import ConfigError

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``"host:port"``; an IPv6 address stands in brackets.

    Raises
    ------
    ConfigError
        If it is not of that form.

    Examples
    --------
    >>> split_address("fl.example.org:9050")
    ('fl.example.org', 9050)
    >>> split_address("[::1]:9050")
    ('::1', 9050)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise ConfigError(
            f"{address!r} is no address", hint="write host:port, such as fl.example.org:9050"
        )
    return match[1].strip("[]"), int(match[2])
