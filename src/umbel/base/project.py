"""What an app says about itself in its ``pyproject.toml``, and what the command line changes."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from umbel.base.errors import ConfigError

Scalar = bool | int | float | str

_COMPONENTS = ("serverapp", "clientapp")
_BACKENDS = ("inprocess", "processes", "ray")
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of an app's configuration and where it was set."""

    value: Scalar
    origin: str


@dataclass(frozen=True, slots=True)
class SimulationDefaults:
    """How an app asks to be simulated (``[tool.umbel.simulation]``); the command line wins.

    Attributes
    ----------
    nodes : int
        Number of virtual clients.
    backend : str
        ``"inprocess"``, ``"processes"`` or ``"ray"``.
    client_resources : dict of str to float
        ``num_cpus`` and ``num_gpus`` that one client needs; fractions are allowed.
    """

    nodes: int = 10
    backend: str = "processes"
    client_resources: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppProject:
    """An app as its ``pyproject.toml`` declares it.

    Attributes
    ----------
    name, version : str
        From ``[project]``.
    root : pathlib.Path
        The folder that holds ``pyproject.toml``; the app's modules are imported from it.
    components : dict of str to str
        ``"serverapp"`` and ``"clientapp"``, each as ``"package.module:attribute"``.
    config : dict of str to Setting
        The run configuration; the keys of nested tables are joined with dots.
    simulation : SimulationDefaults
    tools : tuple of str
        Which tables declare it: ``"flwr"``, ``"umbel"`` or both.
    """

    name: str
    version: str
    root: Path
    components: dict[str, str]
    config: dict[str, Setting]
    simulation: SimulationDefaults = field(default_factory=SimulationDefaults)
    tools: tuple[str, ...] = ("umbel",)

    @classmethod
    def read(cls, root: str | Path) -> AppProject:
        """Read ``pyproject.toml`` in the folder ``root``.

        ``[tool.flwr.app]`` is read as well; where both tables set a value, ``[tool.umbel.app]``
        wins.

        Raises
        ------
        ConfigError
            If the file is missing, is not TOML, or declares something that Umbel does not know.
        """
        folder = Path(root).resolve()
        file = folder / "pyproject.toml"
        document = _parse(file)
        project = _table(document, "project", file)
        name = project.get("name")
        if not isinstance(name, str):
            raise ConfigError("[project] has no name", hint='add name = "my-app"', file=file)
        components: dict[str, str] = {}
        config: dict[str, Setting] = {}
        tools = []
        for tool in ("flwr", "umbel"):
            app = _table(document, f"tool.{tool}.app", file)
            where = f"[tool.{tool}.app.config]"
            if app:
                tools.append(tool)
            if tool == "umbel":
                _refuse_unknown(app, ("components", "config"), "[tool.umbel.app]", file)
            named = _table(document, f"tool.{tool}.app.components", file)
            components |= _read_components(named, tool, file)
            flat = _flatten(_table(document, f"tool.{tool}.app.config", file), "", where, file)
            config |= {
                key: Setting(value, f"pyproject.toml {where}") for key, value in flat.items()
            }
        for part in _COMPONENTS:
            if part not in components:
                raise ConfigError(
                    f"[tool.umbel.app.components] names no {part}",
                    hint=f'add {part} = "package.module:app"',
                    file=file,
                )
        return cls(
            name=name,
            version=str(project.get("version", "0.0.0")),
            root=folder,
            components=components,
            config=config,
            simulation=_read_simulation(_table(document, "tool.umbel.simulation", file), file),
            tools=tuple(tools),
        )

    @property
    def run_config(self) -> dict[str, Scalar]:
        """The configuration as the app sees it in ``context.run_config``."""
        return {key: setting.value for key, setting in self.config.items()}

    def with_overrides(self, overrides: Iterable[str]) -> AppProject:
        """Return a copy in which each ``"key=value"`` replaces the value of a declared key.

        The value is read as the type that ``pyproject.toml`` gives the key: ``true`` or ``false``,
        an integer, a number (an integer is taken for one), or the text as it stands.

        Raises
        ------
        ConfigError
            If a key is not declared, or a value is not of its type.

        Examples
        --------
        >>> project = AppProject("demo", "1", Path("."), {}, {"lr": Setting(0.1, "file")})
        >>> project.with_overrides(["lr=1"]).run_config
        {'lr': 1.0}
        """
        config = dict(self.config)
        file = self.root / "pyproject.toml"
        for override in overrides:
            key, equals, text = override.partition("=")
            key = key.strip()
            if not equals:
                raise ConfigError(
                    f"cannot read the override {override!r}", hint="write it as key=value", key=key
                )
            if key not in config:
                raise ConfigError(
                    f"the app declares no setting {key!r}",
                    hint=_did_you_mean(key, config)
                    or f"declare it under [tool.umbel.app.config]; known: {_listing(config)}",
                    key=key,
                    file=file,
                )
            value = _convert(key, text.strip(), type(config[key].value), file)
            config[key] = Setting(value, f"command line: {override}")
        return replace(self, config=config)


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            "no pyproject.toml: this folder is not an app",
            hint="name an app's folder, or make one with: umbel new DIR --template numpy",
            file=file,
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file: {error}", hint="mend the file", file=file) from error


def _table(document: Mapping[str, Any], path: str, file: Path) -> dict[str, Any]:
    """Return the table at the dotted path, empty when it is not there."""
    table = dict(document)
    for part in path.split("."):
        table = table.get(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"[{path}] must be a table", hint=f"write [{path}]", file=file)
    return table


def _refuse_unknown(
    table: Mapping[str, object], known: Iterable[str], where: str, file: Path
) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(
                f"{where} does not know {key!r}",
                hint=_did_you_mean(key, known) or f"known: {_listing(known)}",
                key=key,
                file=file,
            )


def _read_components(table: Mapping[str, Any], tool: str, file: Path) -> dict[str, str]:
    where = f"[tool.{tool}.app.components]"
    if tool == "umbel":
        _refuse_unknown(table, _COMPONENTS, where, file)
    found = {}
    for part in _COMPONENTS:
        if part not in table:
            continue
        target = table[part]
        module, colon, attribute = target.partition(":") if isinstance(target, str) else ("",) * 3
        if not (module and colon and attribute):
            raise ConfigError(
                f"{where} {part} = {target!r} does not name an object",
                hint='write it as "package.module:attribute"',
                key=part,
                file=file,
            )
        found[part] = target
    return found


def _flatten(table: Mapping[str, Any], prefix: str, where: str, file: Path) -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for key, value in table.items():
        name = prefix + key
        if isinstance(value, dict):
            inner = _flatten(value, f"{name}.", where, file)
        elif isinstance(value, bool | int | float | str):
            inner = {name: value}
        else:
            raise ConfigError(
                f"{where} {name} is of type {type(value).__name__}",
                hint="a setting is a boolean, an integer, a number or a string",
                key=name,
                file=file,
            )
        for clash in flat.keys() & inner.keys():
            raise ConfigError(f"{where} sets {clash} twice", hint="remove one", file=file)
        flat |= inner
    return flat


def _read_simulation(table: Mapping[str, Any], file: Path) -> SimulationDefaults:
    where = "[tool.umbel.simulation]"
    defaults = SimulationDefaults()
    _refuse_unknown(table, ("nodes", "backend", "client-resources"), where, file)
    nodes = table.get("nodes", defaults.nodes)
    if type(nodes) is not int or nodes < 1:
        raise ConfigError(
            f"{where} nodes = {nodes!r}", hint="nodes is an integer, 1 or more", file=file
        )
    backend = table.get("backend", defaults.backend)
    if backend not in _BACKENDS:
        raise ConfigError(
            f"{where} backend = {backend!r}", hint=f"choose {_listing(_BACKENDS)}", file=file
        )
    resources = table.get("client-resources", {})
    if not isinstance(resources, dict):
        raise ConfigError(
            f"{where} client-resources must be a table",
            hint="write client-resources.num-cpus = 1",
            file=file,
        )
    _refuse_unknown(resources, ("num-cpus", "num-gpus"), f"{where} client-resources", file)
    for key, amount in resources.items():
        if type(amount) not in (int, float) or amount < 0:
            raise ConfigError(
                f"{where} client-resources.{key} = {amount!r}",
                hint="it is a number, 0 or more",
                key=key,
                file=file,
            )
    named = {key.replace("-", "_"): amount for key, amount in resources.items()}
    return SimulationDefaults(nodes, backend, named)


def _convert(key: str, text: str, kind: type[Scalar], file: Path) -> Scalar:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise ConfigError(
            f"{key} must be {_WORDS[kind]}, not {text!r}",
            hint=f"its type is that of its value in pyproject.toml ({kind.__name__})",
            key=key,
            file=file,
            expected=kind.__name__,
        ) from None


def _did_you_mean(word: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else None


def _listing(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
