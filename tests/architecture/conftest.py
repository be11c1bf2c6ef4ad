"""What the architecture tests share: every source file, read once, with its names resolved."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "umbel"
GENERATED = PACKAGE / "deployment" / "wire"
"""What ``make wire`` writes: no rule on style is for it."""

TYPE_GUARDS = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


@dataclass(frozen=True)
class Import:
    """One name that a file imports: ``from <module> import <name>``, or ``import <module>``."""

    line: int
    module: str
    name: str | None
    alias: str
    for_types: bool
    """Whether it stands under ``if TYPE_CHECKING:``, and so loads nothing."""

    @property
    def target(self) -> str:
        return self.module if self.name is None else f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Source:
    """A Python file; ``path`` is relative to the repository's root."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def in_package(self) -> str | None:
        """The path relative to ``src/umbel``, or None outside."""
        prefix = "src/umbel/"
        return self.path.removeprefix(prefix) if self.path.startswith(prefix) else None

    @property
    def folder(self) -> str | None:
        """The folder of ``umbel`` that the file lies in; None for ``umbel/__init__.py``."""
        first, slash, _ = (self.in_package or "").partition("/")
        return first if slash else None

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """All imports: of the module, in functions, and under ``TYPE_CHECKING``."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[Import]:
        guarded = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_GUARDS
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(self.tree):
            for_types = id(node) in guarded
            if isinstance(node, ast.Import):
                for name in node.names:
                    alias = name.asname or name.name.partition(".")[0]
                    yield Import(node.lineno, name.name, None, alias, for_types)
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                for name in node.names:
                    alias = name.asname or name.name
                    yield Import(node.lineno, module, name.name, alias, for_types)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = Path(self.path.removeprefix("src/")).parts[: -node.level]
        return ".".join([*parents, node.module] if node.module else parents)

    def dotted(self, node: ast.expr) -> str | None:
        """The full dotted name that an expression stands for, through the file's imports."""
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return None if owner is None else f"{owner}.{node.attr}"
        return self._names.get(node.id) if isinstance(node, ast.Name) else None

    @cached_property
    def _names(self) -> dict[str, str]:
        # `import a.b` binds `a`; `import a.b as c` binds `c` to `a.b`.
        return {
            item.alias: item.alias
            if item.name is None and item.module.startswith(f"{item.alias}.")
            else item.target
            for item in self.imports
        }


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def source() -> type[Source]:
    """The class itself, for tests that show a rule a text which breaks it."""
    return Source


@pytest.fixture(scope="session")
def all_sources() -> list[Source]:
    """Every Python file of the repository."""
    files = (
        path
        for folder in ("src", "tests", "benchmarks", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
        if path.parent != GENERATED
    )
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in files]


@pytest.fixture(scope="session")
def sources(all_sources: list[Source]) -> list[Source]:
    """The files of the package, less the templates of ``umbel new``: those are users' apps."""
    found = [s for s in all_sources if s.in_package and "/templates/" not in s.path]
    assert found, "src/umbel holds no Python file: the rules would pass on nothing"
    return found


@pytest.fixture(scope="session")
def folders() -> list[str]:
    """The folders of ``umbel``."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
