"""Where a server listens, as people write it: ``host:port``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from umbel.base import ConfigError
from umbel.deployment.atomic import PUBLIC, write_atomically

_FILE = "addresses"
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
            f"{address!r} is no address", hint="write host:port, such as fl.example.org:9200"
        )
    return match[1].strip("[]"), int(match[2])


def reached_at(addresses: Sequence[str], host: str, port: int) -> tuple[str, ...]:
    """Return under which addresses others reach a server: those given, or where it listens.

    None is known of one that listens everywhere.

    Examples
    --------
    >>> reached_at([], "127.0.0.1", 9050), reached_at([], "0.0.0.0", 9050)
    (('127.0.0.1:9050',), ())
    """
    if addresses:
        return tuple(addresses)
    with suppress(ValueError):
        if ipaddress.ip_address(host.strip("[]")).is_unspecified:
            return ()
    return (f"{host}:{port}",)


def remember_addresses(data_dir: Path, addresses: Sequence[str]) -> None:
    """Write into a server's data folder under which addresses it is reached."""
    text = "".join(f"{address}\n" for address in addresses)
    write_atomically(data_dir / _FILE, text.encode(), mode=PUBLIC)


def remembered_addresses(data_dir: Path) -> tuple[str, ...]:
    """Return what the server wrote when it last started; nothing if it never has."""
    try:
        return tuple((data_dir / _FILE).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return ()
