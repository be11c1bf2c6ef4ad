"""Chance as an argument: named random streams that all derive from one run seed.

A stream is addressed by its name, so that a new consumer of randomness shifts no other stream.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from operator import index
from types import ModuleType
from typing import Any, SupportsIndex, TypeVar

import numpy as np

from umbel.base.errors import ConfigError

T = TypeVar("T")

_SEED_BITS = 63


def _is_seed(value: object) -> bool:
    return isinstance(value, SupportsIndex) and 0 <= index(value) < 1 << _SEED_BITS


class Seeds:
    """A tree of random streams; ``child`` names a branch.

    Parameters
    ----------
    seed : int or None
        The root of all streams, ``0 <= seed < 2**63``. ``None`` draws one from the module
        ``random``, so that a program that calls ``random.seed`` repeats itself; read it back from
        ``seed``.

    Examples
    --------
    >>> a = Seeds(7).child("round", 3, "sample").numpy().integers(1000)
    >>> b = Seeds(7).child("round", 3, "sample").numpy().integers(1000)
    >>> bool(a == b)
    True
    """

    __slots__ = ("_hash", "seed")

    def __init__(self, seed: int | None = None) -> None:
        if seed is None:
            seed = random.getrandbits(_SEED_BITS)
        if not _is_seed(seed):
            raise ConfigError(f"a seed is a whole number in [0, 2**{_SEED_BITS}), got {seed!r}")
        self.seed = seed = index(seed)
        self._hash = hashlib.sha256(b"umbel-seed" + seed.to_bytes(8, "little"))

    def child(self, *names: str | int) -> Seeds:
        """Return the branch with this name; the same name gives the same branch for ever."""
        branch = object.__new__(Seeds)
        branch.seed = self.seed
        branch._hash = self._hash.copy()
        for name in names:
            text = str(name).encode()
            # Type and length are part of the name: "1" is not 1, and ("a", "b") is not ("ab",).
            branch._hash.update(b"%c%d:%b" % (type(name) is str, len(text), text))
        return branch

    def integer(self, bits: int = _SEED_BITS) -> int:
        """Return this branch as one integer in ``[0, 2**bits)``, ``bits <= 256``."""
        return int.from_bytes(self._hash.digest(), "little") & ((1 << bits) - 1)

    def numpy(self) -> np.random.Generator:
        """Return a fresh NumPy generator for this branch."""
        return np.random.default_rng(self.integer(128))

    def python(self) -> random.Random:
        """Return a fresh generator of the standard library for this branch."""
        return random.Random(self.integer(128))

    def seed_globals(self) -> None:
        """Seed the process-wide generators of ``random``, NumPy, torch and TensorFlow.

        The last two are not imported for that: they are seeded now if they are there, and
        otherwise when the program imports them.
        """
        number = self.integer(63)
        random.seed(number)
        np.random.seed(number & 0xFFFFFFFF)
        for name in _SEEDERS:
            if name in sys.modules:
                _seed_library(name, number)
        _LATECOMERS.number = number
        if _LATECOMERS not in sys.meta_path:
            sys.meta_path.insert(0, _LATECOMERS)


def global_sample(population: Sequence[T], count: int) -> list[T]:
    """Return ``count`` members drawn with the module ``random``, which ``random.seed`` repeats.

    For programs that steer chance by ``random.seed``; everything else draws from its ``Seeds``.

    Examples
    --------
    >>> random.seed(3)
    >>> first = global_sample(range(100), 2)
    >>> random.seed(3)
    >>> first == global_sample(range(100), 2)
    True
    """
    return random.sample(population, count)


def _seed_torch(torch: Any, number: int) -> None:
    torch.manual_seed(number)


def _seed_tensorflow(tensorflow: Any, number: int) -> None:
    tensorflow.random.set_seed(number & 0x7FFFFFFF)


_SEEDERS = {"torch": _seed_torch, "tensorflow": _seed_tensorflow}


def _seed_library(name: str, number: int) -> None:
    # A library may be only half imported, by a program whose import failed.
    with suppress(AttributeError):
        _SEEDERS[name](sys.modules[name], number)


class _Latecomers(MetaPathFinder):
    """Seeds a library while it is imported, with what the others were seeded with last.

    Otherwise the first client that imports it in a worker would draw numbers that no other draws.
    """

    number: int | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _SEEDERS or self.number is None:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._seed_after(spec.loader, fullname)
        return spec

    def _seed_after(self, loader: Any, name: str) -> None:
        execute = loader.exec_module

        def execute_and_seed(module: ModuleType) -> None:
            execute(module)
            if self.number is not None:
                _seed_library(name, self.number)

        loader.exec_module = execute_and_seed


_LATECOMERS = _Latecomers()


@contextmanager
def preserved_globals() -> Iterator[None]:
    """Restore the process-wide generators on leaving, whatever was drawn or seeded inside."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    number = _LATECOMERS.number
    torch = sys.modules.get("torch")
    torch_state = None
    if torch is not None and hasattr(torch, "get_rng_state"):
        torch_state = torch.get_rng_state()
    try:
        yield
    finally:
        _LATECOMERS.number = number
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if torch is not None and torch_state is not None:
            torch.set_rng_state(torch_state)
        elif number is not None and "torch" in sys.modules:
            _seed_library("torch", number)  # as if it had been imported out here
