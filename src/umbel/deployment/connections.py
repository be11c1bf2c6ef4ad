"""Named connections: which servers a user works with, and as whom."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umbel.base import ConfigError, config_folder
from umbel.deployment.addresses import split_address
from umbel.deployment.atomic import PRIVATE, private_folder, write_atomically

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KEYS = {"address": str, "insecure": bool, "identity": str}


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one server.

    Attributes
    ----------
    name : str
        1 to 64 letters, digits, ``-`` and ``_``.
    address : str
        ``"host:port"``.
    insecure : bool
        Whether to speak without TLS, which goes with no identity.
    identity_dir : pathlib.Path or None
        The folder of the ``Identity`` to use.

    Raises
    ------
    ConfigError
        If a part is not of this form.
    """

    name: str
    address: str
    insecure: bool = False
    identity_dir: Path | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        split_address(self.address)
        if self.insecure == (self.identity_dir is not None):
            raise ConfigError(
                "a connection has an identity, or is insecure, and not both",
                hint="join with a token, or connect with --insecure",
                connection=self.name,
            )


def check_name(name: str) -> None:
    """Refuse what cannot name a connection, and a folder.

    Raises
    ------
    ConfigError
        If it is not 1 to 64 letters, digits, ``-`` and ``_``.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a connection",
            hint="a name is 1 to 64 letters, digits, - and _, and begins with one of the first two",
        )


class Connections:
    """The connections of this user, kept in ``connections.toml``.

    Parameters
    ----------
    folder : str or pathlib.Path, optional
        Of the user's settings, ``~/.config/umbel`` if not told otherwise.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     connections = Connections(folder)
    ...     connections.add(Connection("local", "localhost:9050", insecure=True))
    ...     connections.load("local").address
    'localhost:9050'
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = config_folder() if folder is None else Path(folder)
        self.file = self.folder / "connections.toml"

    def identity_dir(self, name: str) -> Path:
        """Return the folder that is meant for the identity of the connection with this name.

        Raises
        ------
        ConfigError
            If it cannot name a connection.
        """
        check_name(name)
        return self.folder / "identities" / name

    def list(self) -> list[Connection]:
        """Return all connections, by name.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        return sorted(self._read().values(), key=lambda connection: connection.name)

    def load(self, name: str) -> Connection:
        """Return the connection with this name.

        Raises
        ------
        ConfigError
            If there is none, or the file cannot be read.
        """
        connections = self._read()
        if name not in connections:
            raise self._unknown(name, connections)
        return connections[name]

    def add(self, connection: Connection, *, replace: bool = False) -> None:
        """Add a connection.

        Parameters
        ----------
        connection : Connection
        replace : bool
            Whether it may take the place of another of its name.

        Raises
        ------
        ConfigError
            If there is one of this name and it may not, or the file cannot be read.
        """
        self.check_free(connection.name, replace=replace)
        self._write(self._read() | {connection.name: connection})

    def check_free(self, name: str, *, replace: bool) -> None:
        """Refuse a name that another connection has, unless that is to be replaced.

        Raises
        ------
        ConfigError
            If there is one of that name.
        """
        if not replace and (there := self._read().get(name)) is not None:
            raise ConfigError(
                f"there is a connection {name} already",
                hint="take another name, or replace it: --replace",
                address=there.address,
            )

    def remove(self, name: str) -> None:
        """Forget a connection, and its key and certificate where they lie among these settings.

        Raises
        ------
        ConfigError
            If there is none of this name, or the file cannot be read.
        """
        connections = self._read()
        if name not in connections:
            raise self._unknown(name, connections)
        gone = connections.pop(name)
        self._write(connections)
        if gone.identity_dir == self.identity_dir(name):
            shutil.rmtree(gone.identity_dir, ignore_errors=True)

    def _unknown(self, name: str, known: Mapping[str, Connection]) -> ConfigError:
        return ConfigError(
            f"there is no connection {name!r}",
            hint=f"known: {', '.join(sorted(known)) or 'none'}; add one with: umbel connect",
            file=self.file,
        )

    def _read(self) -> dict[str, Connection]:
        try:
            document = tomllib.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"the connections cannot be read: {error}", hint="mend the file", file=self.file
            ) from error
        return {name: self._parse(name, table) for name, table in document.items()}

    def _parse(self, name: str, table: Any) -> Connection:
        if not isinstance(table, dict) or any(
            not isinstance(table[key], _KEYS.get(key, ())) for key in table
        ):
            raise ConfigError(
                f"[{name}] is not a connection",
                hint='it has address = "host:port" and identity = "FOLDER" or insecure = true',
                file=self.file,
            )
        identity = table.get("identity")
        try:
            return Connection(
                name,
                table.get("address", ""),
                table.get("insecure", False),
                None if identity is None else self.folder / identity,
            )
        except ConfigError as error:
            raise ConfigError(
                f"[{name}]: {error.message}", hint=error.hint, file=self.file
            ) from error

    def _write(self, connections: Mapping[str, Connection]) -> None:
        text = "# Written by `umbel connect`.\n"
        for name, connection in sorted(connections.items()):
            text += f"\n[{name}]\naddress = {_toml_string(connection.address)}\n"
            if connection.insecure:
                text += "insecure = true\n"
            if connection.identity_dir is not None:
                text += f"identity = {_toml_string(str(connection.identity_dir.absolute()))}\n"
        write_atomically(private_folder(self.folder) / self.file.name, text.encode(), mode=PRIVATE)


def _toml_string(text: str) -> str:
    # JSON's escapes are TOML's too, but for the pairs that JSON makes of characters past U+FFFF;
    # and TOML wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
