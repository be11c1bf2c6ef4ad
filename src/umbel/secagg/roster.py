"""The roster: who takes part, with which keys, each entry signed by its node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from umbel.base import SecAggAborted
from umbel.secagg.graph import Graph
from umbel.secagg.keys import KEY_BYTES, SIGNATURE_BYTES, verified
from umbel.secagg.parameters import SecAggParameters
from umbel.secagg.payloads import Payload, named, read_bytes, read_each, read_nodes
from umbel.secagg.transcript import digest

_FIELDS = {
    "identity": KEY_BYTES,
    "signing": KEY_BYTES,
    "cipher": KEY_BYTES,
    "mask": KEY_BYTES,
    "signature": SIGNATURE_BYTES,
}


@dataclass(frozen=True)
class Entry:
    """One client's public keys for one session, as it advertised them.

    Parameters
    ----------
    node : int
        The client's node id.
    identity : bytes
        The Ed25519 key that the node keeps; it signs this entry and nothing else.
    signing : bytes
        The session's Ed25519 key; it signs what the client says later.
    cipher, mask : bytes
        The session's X25519 keys: to seal shares, and to agree on masks.
    signature : bytes
        By the identity.
    """

    node: int
    identity: bytes
    signing: bytes
    cipher: bytes
    mask: bytes
    signature: bytes

    def statement(self, parameters: SecAggParameters, session: bytes) -> bytes:
        """Return what the identity signs."""
        return digest(
            "keys", session, parameters.digest(), self.node, self.signing, self.cipher, self.mask
        )

    def payload(self) -> Payload:
        """Return the entry as its client sends it."""
        return {key: getattr(self, key) for key in _FIELDS}

    @classmethod
    def of(cls, node: int, payload: Mapping[str, Any]) -> Entry:
        """Return the entry that a client sent.

        Raises
        ------
        SecAggAborted
            A key is missing or has another size.
        """
        return cls(node, *(read_bytes(payload, key, size, node) for key, size in _FIELDS.items()))


class Roster:
    """The entries of all who take part, in the order of their node ids.

    Parameters
    ----------
    parameters : SecAggParameters
        The session's.
    session : bytes
        Its id.
    entries : iterable of Entry
        One a node.
    """

    def __init__(
        self, parameters: SecAggParameters, session: bytes, entries: Iterable[Entry]
    ) -> None:
        self.parameters = parameters
        self.session = session
        self.entries = {entry.node: entry for entry in sorted(entries, key=lambda e: e.node)}

    @property
    def nodes(self) -> list[int]:
        """Node ids in ascending order."""
        return list(self.entries)

    @cached_property
    def hash(self) -> bytes:
        """The hash that everything later is bound to."""
        keys = (
            part
            for e in self.entries.values()
            for part in (e.node, e.identity, e.signing, e.cipher, e.mask)
        )
        return digest("roster", self.session, self.parameters.digest(), *keys)

    @cached_property
    def graph(self) -> Graph:
        """Who is whose neighbour."""
        return Graph(self.nodes, self.parameters.degree, self.hash)

    @property
    def quorum(self) -> int:
        """How many must be left: of all the part that the threshold is of a neighbourhood."""
        return self.parameters.quorum(len(self.entries))

    def binding(self, model: bytes) -> bytes:
        """Return what mask keys are bound to: session, parameters, roster and model."""
        return digest("masks", self.session, self.hash, model)

    def survival(self, model: bytes, survivors: Iterable[int]) -> bytes:
        """Return what clients sign when they are told who survived."""
        return digest("survivors", self.session, self.hash, model, *survivors)

    def check(self, trusted: Collection[bytes] | None = None, own: int | None = None) -> None:
        """Refuse a roster that is too small, not signed, or has someone in it twice.

        Parameters
        ----------
        trusted : collection of bytes, optional
            The identity keys that all but ``own`` must be among.
        own : int, optional
            The node that checks.

        Raises
        ------
        SecAggAborted
            With the cause.
        """
        problem = self.parameters.problem(self.graph.size)
        if problem:
            raise SecAggAborted(problem, hint="choose the threshold for the size of the cohort")
        for entry in self.entries.values():
            if trusted is not None and entry.node != own and entry.identity not in trusted:
                raise SecAggAborted(
                    "the roster has a client whose identity key is not trusted here",
                    hint="if it belongs there, add its public key to the trusted ones",
                    node=entry.node,
                    key=entry.identity.hex(),
                )
            statement = entry.statement(self.parameters, self.session)
            if not verified(entry.identity, entry.signature, statement):
                raise SecAggAborted(
                    "the keys in the roster are not signed by their identity for this session",
                    node=entry.node,
                )
        # Only now: who claims the key of another is the one that must go.
        for key in ("identity", "signing", "cipher", "mask"):
            owners: dict[bytes, int] = {}
            for entry in self.entries.values():
                value = getattr(entry, key)
                if value in owners:
                    raise SecAggAborted(
                        f"the roster has the same {key} key twice, as nodes {owners[value]} and "
                        f"{entry.node}: one client poses as several",
                        node=entry.node,
                    )
                owners[value] = entry.node

    def check_enough(self, present: Collection[int], step: str, needed: Iterable[int]) -> None:
        """Refuse to go on when too few are left, in all or around one of the ``needed`` nodes.

        Raises
        ------
        SecAggAborted
            With the step after which they are missing.
        """
        lost = named(set(self.entries) - set(present))
        hint = "run the round again; if clients drop out often, lower the threshold"
        if len(present) < self.quorum:
            raise SecAggAborted(
                f"too few clients are left after step {step!r}: {len(present)} of "
                f"{len(self.entries)}, and {self.quorum} are needed; lost: nodes {lost}",
                hint=hint,
                left=len(present),
                needed=self.quorum,
            )
        if self.graph.size == len(self.entries):
            return
        here = set(present)
        for node in needed:
            around = len(here.intersection(self.graph.closed(node)))
            if around < self.parameters.threshold:
                raise SecAggAborted(
                    f"too few clients are left around a node after step {step!r}: {around} of "
                    f"{self.graph.size}, and {self.parameters.threshold} are needed; lost: nodes "
                    f"{lost}",
                    hint=hint,
                    node=node,
                    left=around,
                    needed=self.parameters.threshold,
                )

    def check_connected(self, survivors: Collection[int]) -> None:
        """Refuse survivors that do not hang together.

        Raises
        ------
        SecAggAborted
            With the reason.
        """
        largest, *others = self.graph.groups(survivors)
        if others:
            raise SecAggAborted(
                f"the {len(survivors)} survivors fall apart into groups of {largest} and fewer, "
                "and the sum of each would come out",
                hint="raise the degree, or run the round again",
                left=largest,
                needed=len(survivors),
            )

    def payload(self) -> Payload:
        """Return the roster as the server sends it to all."""
        lists: Payload = {"nodes": self.nodes}
        for key in _FIELDS:
            lists[key] = [getattr(entry, key) for entry in self.entries.values()]
        return lists

    @classmethod
    def of(cls, parameters: SecAggParameters, session: bytes, payload: Mapping[str, Any]) -> Roster:
        """Return the roster that the server sent, not yet checked.

        Raises
        ------
        SecAggAborted
            A list is missing, is out of order, or has entries of another size.
        """
        nodes = read_nodes(payload, "nodes")
        columns = [read_each(payload, key, nodes, size) for key, size in _FIELDS.items()]
        rows = zip(nodes, *columns, strict=True)
        return cls(parameters, session, (Entry(*row) for row in rows))
