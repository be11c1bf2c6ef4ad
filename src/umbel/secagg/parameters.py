"""What all who take part in one secure aggregation agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.base import ConfigError, RecordError, SecAggAborted, is_whole_number
from umbel.secagg.payloads import Payload, read_count
from umbel.secagg.transcript import digest


@dataclass(frozen=True)
class SecAggParameters:
    """The numbers that a secure aggregation runs with.

    A *neighbourhood* is a client with its neighbours: all clients of the roster (SecAgg), or
    ``degree + 1`` of them (SecAgg+). Its members hold the shares of that client's two secrets.

    Parameters
    ----------
    threshold : int
        How many members of a neighbourhood must answer to the end; with ``active``, more than half
        of it. ``withstands`` says how many of them may collude with the server.
    length : int
        Numbers in a client's vector.
    bits : {32, 16, 64}
        Bits of each; sums are modulo ``2**bits``.
    degree : int, optional
        Neighbours of each client, an even number (SecAgg+; ``choose_degree`` finds it). Without
        it, each client is a neighbour of all others (SecAgg).
    active : bool
        True keeps updates secret from a server that breaks the protocol: clients compare, with
        signatures, what it told them. False saves that exchange and trusts the server to follow.

    Raises
    ------
    ConfigError
        A number is out of range, or the threshold is too low to keep anything secret.

    Examples
    --------
    >>> SecAggParameters(threshold=5, length=1000).dtype
    dtype('uint32')
    """

    threshold: int
    length: int
    bits: int = 32
    degree: int | None = None
    active: bool = True

    def __post_init__(self) -> None:
        """Check the numbers against each other."""
        if self.bits not in (16, 32, 64):
            raise ConfigError(f"bits must be 16, 32 or 64, got {self.bits}", key="bits")
        if not is_whole_number(self.length) or self.length < 1:
            raise ConfigError(
                f"a vector has at least one number, got {self.length!r}", key="length"
            )
        if not is_whole_number(self.threshold) or self.threshold < 2:
            raise ConfigError(
                f"the threshold must be at least 2, got {self.threshold!r}",
                hint="with 1, every share would be the secret itself",
                key="threshold",
            )
        if self.degree is not None:
            if not is_whole_number(self.degree) or self.degree < 2 or self.degree % 2:
                raise ConfigError(
                    f"the degree must be an even number from 2 on, got {self.degree!r}",
                    hint="the neighbours stand on both sides of a client on a ring",
                    key="degree",
                )
            problem = self.problem(self.degree + 1)
            if problem:
                raise ConfigError(problem, hint="choose_degree finds both", key="threshold")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a vector's numbers: uint16, uint32 or uint64."""
        return np.dtype(f"uint{self.bits}")

    def problem(self, size: int) -> str | None:
        """Return why the threshold does not do for a neighbourhood of this size, or None."""
        if self.threshold > size:
            return f"{size} clients cannot reach the threshold of {self.threshold}"
        if self.active and 2 * self.threshold <= size:
            return (
                f"the threshold of {self.threshold} is not more than half of a neighbourhood "
                f"of {size}: a server could have both kinds of share opened"
            )
        return None

    def quorum(self, clients: int) -> int:
        """Return how many of a roster of so many must be left at any time.

        It is the same part of the roster as the threshold is of a neighbourhood.
        """
        size = clients if self.degree is None else min(clients, self.degree + 1)
        return -(-self.threshold * clients // size)

    def withstands(self, size: int) -> int:
        """Return how many members of a neighbourhood of this size may collude with the server.

        They do not have enough shares to open a secret, nor, with ``active``, with those that
        honest members who were told different things give. And where as few as the threshold are
        left, one of them is honest beside the client itself: its update is not the sum less theirs.
        """
        beside = self.threshold - 2
        return min(2 * self.threshold - size - 1, beside) if self.active else beside

    def check_vector(self, vector: npt.NDArray[Any]) -> None:
        """Refuse what masks cannot be added to in place.

        Raises
        ------
        RecordError
            The type or the length differs, or the numbers do not lie side by side.
        """
        if vector.dtype != self.dtype or vector.shape != (self.length,):
            raise RecordError(
                f"the vector must be {self.length} numbers of {self.dtype}, "
                f"got shape {vector.shape} of {vector.dtype}"
            )
        if not (vector.flags.c_contiguous and vector.flags.writeable):
            raise RecordError("the vector is changed in place: it must be contiguous and writeable")

    def payload(self) -> Payload:
        """Return the parameters as they travel to the clients."""
        return {
            "threshold": self.threshold,
            "length": self.length,
            "bits": self.bits,
            "degree": self.degree or 0,
            "active": int(self.active),
        }

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> SecAggParameters:
        """Return the parameters that a server sent.

        Raises
        ------
        SecAggAborted
            They are incomplete or out of range.
        """
        numbers = {key: read_count(payload, key) for key in ("threshold", "length", "bits")}
        degree = read_count(payload, "degree") or None
        try:
            return cls(**numbers, degree=degree, active=bool(read_count(payload, "active")))
        except ConfigError as error:
            raise SecAggAborted(
                f"the server's parameters are refused: {error.message}", hint=error.hint
            ) from error

    def digest(self) -> bytes:
        """Return the hash that signatures bind."""
        degree, active = self.degree or 0, int(self.active)
        return digest("parameters", self.threshold, self.length, self.bits, degree, active)
