"""``umbel server`` and ``umbel node``: the two programs of a deployment."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import signal
import socket
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from umbel.base import SYSTEM_CLOCK, ConfigError, Scalar
from umbel.cli.problems import print_json
from umbel.cli.tables import console

if TYPE_CHECKING:
    from umbel.deployment import NodeEvent, ServerSettings


def init_server(data_dir: Path, hosts: list[str], certificate_days: float) -> None:
    """Make the authority and the certificate of a server."""
    from umbel.deployment import Authority

    authority = Authority.create(data_dir / "authority", socket.gethostname())
    names = hosts or ["localhost", "127.0.0.1", socket.gethostname()]
    authority.server_certificate(names, certificate_days).save(data_dir / "identity")
    console().print(f"The server is known as {', '.join(names)}; its keys lie in {data_dir}.")
    console().print(f"Start it: umbel server --data {data_dir}")


def create_token(
    data_dir: Path | None, on: str | None, role: str, name: str, ttl_s: float, address: list[str]
) -> str:
    """Return a join token, from a server that runs or from the authority in its data folder."""
    if data_dir is None:
        from umbel.cli.remote import client

        if address:
            raise ConfigError("--address goes with --data", hint="a server knows its own address")
        with client(on) as server:
            return server.create_token(role, name, ttl_s)
    if on is not None:
        raise ConfigError(
            "a token comes from a data folder or from a server",
            hint="give --data on the server's machine, or else --on",
        )
    from umbel.deployment import Authority, granted_role, remembered_addresses
    from umbel.deployment import create_token as create

    addresses = address or remembered_addresses(data_dir)
    authority = Authority.load(data_dir / "authority")
    return create(authority, granted_role(role), addresses, ttl_s, name or None).encode()


def run_server(settings: ServerSettings, *, log_json: bool) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from umbel.deployment import reached_at, remember_addresses, serve

    _log_to_stderr(log_json)
    out = console(stderr=True)
    if settings.insecure and not _is_loopback(settings.host):
        out.print(
            Text.assemble(
                (f"No TLS on {settings.host}:", "bold red"),
                " whoever reaches this port may read and change everything. "
                "Use `umbel server init` and tokens instead.",
            )
        )

    def on_start(port: int) -> None:
        reached = reached_at(settings.addresses, settings.host, port)
        remember_addresses(settings.data_dir, reached)
        tls = "without TLS" if settings.insecure else "mutual TLS"
        text = f"umbel server on {settings.host}:{port} ({tls}), data in {settings.data_dir}"
        if log_json:
            logging.getLogger("umbel.deployment").info(text)
        else:
            out.print(text)

    async def main() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await serve(settings, ended, on_start)

    asyncio.run(main())


def run_node(
    address: str | None,
    token: str | None,
    data_dir: Path,
    *,
    insecure: bool,
    log_json: bool,
    settings: dict[str, Any],
    policy: Path | None,
) -> None:
    """Be a node until SIGTERM or Ctrl-C, joining first if a token is given."""
    from umbel.deployment import (
        Identity,
        JoinToken,
        NodeSettings,
        join,
        read_policy,
        serve_node,
    )

    rules = None if policy is None else read_policy(policy)
    identity_dir = data_dir / "identity"
    chosen = {key: value for key, value in settings.items() if value is not None}
    chosen |= {"identity_dir": None if insecure else identity_dir, "policy": rules}
    # Wrong settings are found before a token is used, which works once.
    told = NodeSettings(address=address or "", data_dir=data_dir, **chosen)
    told.check_apps()
    if insecure:
        if address is None:
            raise ConfigError("where is the server?", hint="umbel node HOST:PORT --insecure")
    else:
        if token is not None:
            grant = JoinToken.decode(token)
            if grant.role != "node":
                raise ConfigError(
                    f"the token is for a user of the role {grant.role}, not for a node",
                    hint="for a node: umbel token create --role node",
                )
            identity = join(grant, identity_dir, told.name, told.tags)
        else:
            identity = Identity.load(identity_dir)
        identity.check_valid(SYSTEM_CLOCK.now())
        address = address or identity.address
    out = console(stderr=True)

    def show(event: NodeEvent) -> None:
        if log_json:
            facts = {"at": SYSTEM_CLOCK.now(), "event": event.kind, "text": event.text}
            print_json(facts | ({"run-id": event.run_id} if event.run_id else {}))
        else:
            at = datetime.fromtimestamp(SYSTEM_CLOCK.now()).strftime("%Y-%m-%d %H:%M:%S")
            what = f"run {event.run_id} {event.kind.replace('_', ' ')}: " if event.run_id else ""
            out.print(f"{at} {what}{event.text}", soft_wrap=True)

    serve_node(replace(told, address=address), show)


def key_values(pairs: list[str], option: str) -> dict[str, Scalar]:
    """Read ``KEY=VALUE``: numbers and booleans as such, all else as text."""
    found: dict[str, Scalar] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"cannot read {pair!r}", hint=f"{option} KEY=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found[key] = value if isinstance(value, bool | int | float | str) else text
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = {
            "at": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts)


def _log_to_stderr(as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
