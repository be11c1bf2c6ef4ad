"""An ``__init__.py`` only re-exports, and what it exports exists and says what it does."""

import ast
import importlib
import inspect

import pytest


def more_than_exports(source):
    """Statements of an ``__init__.py`` that do something; the root may look names up lazily."""
    is_root = source.path == "src/umbel/__init__.py"
    for node in source.tree.body:
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.ImportFrom() if is_root or from_umbel(node):
                continue
            case ast.Assign() | ast.AnnAssign() if bound(node) == {"__all__"}:
                continue
            case ast.Import() | ast.If() | ast.FunctionDef() | ast.Assign() | ast.AnnAssign() if (
                is_root and all(name.startswith("_") for name in bound(node))
            ):
                continue
        yield f"{source.path}:{node.lineno}: an __init__.py only re-exports from umbel"


def from_umbel(node: ast.ImportFrom) -> bool:
    return bool(node.level) or node.module.partition(".")[0] in ("umbel", "__future__")


def bound(node) -> set[str]:
    """The names that an assignment or a definition binds."""
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    return names | ({node.name} if isinstance(node, ast.FunctionDef) else set())


def missing_all(source):
    exports = any(isinstance(node, ast.ImportFrom) for node in source.tree.body)
    if exports and not any("__all__" in bound(node) for node in source.tree.body):
        yield f"{source.path}:1: re-exports are listed in a sorted __all__"


def untold(owner: str, thing):
    """Public classes, functions and methods without a docstring, their own or inherited."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return
    if not thing.__doc__:
        yield f"{owner} has no docstring"
    for name, member in vars(thing).items() if inspect.isclass(thing) else ():
        is_told = inspect.isroutine(member) or isinstance(member, property)
        texts = (getattr(vars(base).get(name), "__doc__", None) for base in thing.__mro__)
        if is_told and not name.startswith("_") and not any(texts):
            yield f"{owner}.{name} has no docstring, and inherits none"


@pytest.fixture(scope="session")
def inits(sources):
    return [source for source in sources if source.path.endswith("/__init__.py")]


@pytest.fixture(scope="session")
def packages(inits):
    names = (s.path.removeprefix("src/").removesuffix("/__init__.py") for s in inits)
    return [importlib.import_module(name.replace("/", ".")) for name in names]


def test_an_init_only_re_exports(inits):
    broken = [line for source in inits for line in more_than_exports(source)]
    broken += [line for source in inits for line in missing_all(source)]
    assert not broken, "\n".join(broken)


def test_every_exported_name_exists_once(packages):
    broken = []
    for package in packages:
        names = getattr(package, "__all__", [])
        broken += [f"{package.__file__}:1: no {n!r}" for n in names if not hasattr(package, n)]
        broken += [f"{package.__file__}:1: {n!r} twice" for n in set(names) if names.count(n) > 1]
    assert not broken, "\n".join(broken)


def test_everything_public_says_what_it_does(packages):
    broken = {
        line
        for package in packages
        for name in getattr(package, "__all__", [])
        if getattr(package, name).__class__.__name__ != "module"
        for line in untold(f"{package.__name__}.{name}", getattr(package, name))
    }
    assert not broken, "\n".join(sorted(broken))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import os\n", 1),
        ('"""Doc."""\nfrom umbel.records.array import Array\nVERSION = 1\n', 3),
        ("def f():\n    return 1\n", 1),
        ("from numpy import array\n", 1),
    ],
)
def test_more_than_re_exports_is_found(source, text, line):
    (found,) = more_than_exports(source("src/umbel/records/__init__.py", text))
    assert found.startswith(f"src/umbel/records/__init__.py:{line}: ")


def test_a_missing_all_is_found(source):
    text = "from umbel.records.array import Array\n"
    assert list(missing_all(source("src/umbel/records/__init__.py", text)))
    assert not list(missing_all(source("a/__init__.py", f"{text}__all__ = ['Array']\n")))
    assert not list(more_than_exports(source("src/umbel/a/__init__.py", "__all__: list[str] = []")))


def test_a_missing_docstring_is_found_and_an_inherited_one_is_enough():
    class Told:
        """Told."""

        def step(self):
            """Step."""

        def loose(self): ...

    class Heir(Told):
        """Heir."""

        def step(self): ...

    assert list(untold("Told", Told)) == ["Told.loose has no docstring, and inherits none"]
    assert not list(untold("Heir", Heir))
