"""The server's side of one secure aggregation, as a state machine without I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from umbel.base import InvalidTransition, SecAggAborted
from umbel.secagg.clientstate import roster_from_json, roster_to_json
from umbel.secagg.keys import SEALED_BYTES, SIGNATURE_BYTES, check_key, verified
from umbel.secagg.masks import Vector, add_masks
from umbel.secagg.parameters import SecAggParameters
from umbel.secagg.payloads import Payload, named, read_bytes, read_each, read_nodes
from umbel.secagg.roster import Entry, Roster
from umbel.secagg.transcript import HASH_BYTES
from umbel.secagg.unmasking import Opening

ServerStage: TypeAlias = Literal["roster", "relay", "survivors", "signatures", "unmask", "done"]
Replies: TypeAlias = Mapping[int, Mapping[str, Any]]
"""What nodes answered to one step, by node id; who is not in it has dropped out."""


class ServerSession:
    """The server in one secure aggregation (Bonawitz et al. 2017; Bell et al. 2020).

    Each method takes what the clients answered to the step before, from those that did, and
    returns what to send them next. It learns the sum over the clients whose vectors are in it, and
    of no client more than that.

    Parameters
    ----------
    parameters : SecAggParameters
        The session's.
    session : bytes
        32 bytes that no other session has: ``fresh_key()``.
    nodes : iterable of int
        Who is asked to take part.

    Examples
    --------
    >>> import numpy as np
    >>> from umbel.secagg.client import ClientSession
    >>> parameters = SecAggParameters(threshold=3, length=2)
    >>> server = ServerSession(parameters, bytes(32), [1, 2, 3, 4])
    >>> clients = {n: ClientSession.begin(parameters, bytes(32), n) for n in server.nodes}
    >>> roster = server.roster({n: c.advertise() for n, c in clients.items()})
    >>> relayed = server.relay({n: c.share(roster) for n, c in clients.items()})
    >>> total = np.zeros(2, np.uint32)
    >>> for node in (1, 3, 4):  # 2 drops out
    ...     vector = np.array([node, 10], np.uint32)
    ...     total += clients[node].mask(vector, b"hash of the model", relayed[node])
    >>> told = server.survivors([1, 3, 4])
    >>> signed = server.signatures({n: clients[n].consistency(told) for n in told["survivors"]})
    >>> server.unmask({n: clients[n].unmask(signed) for n in signed["nodes"]}, total)
    array([ 8, 30], dtype=uint32)
    """

    def __init__(self, parameters: SecAggParameters, session: bytes, nodes: Iterable[int]) -> None:
        self.parameters = parameters
        self.session = session
        self.nodes = sorted(nodes)
        self.stage: ServerStage = "roster"
        self._roster: Roster | None = None
        self._commitments: dict[int, bytes] = {}
        self._model = b""
        self._survivors: list[int] = []
        self._signers: list[int] = []

    def roster(self, replies: Replies) -> Payload:
        """Take what ``advertise`` gave; return the roster, the same for all who are in it.

        Raises
        ------
        SecAggAborted
            Too few answered, or an entry is not signed, someone is there twice, or keys are such
            that no secret comes of them.
        """
        self._at("roster")
        self._among(replies, self.nodes, "the nodes asked")
        entries = [Entry.of(node, reply) for node, reply in replies.items()]
        roster = Roster(self.parameters, self.session, entries)
        roster.check()
        for entry in entries:  # one such client would stop all others, after they have trained
            check_key(entry.cipher, entry.node)
            check_key(entry.mask, entry.node)
        self._roster, self.stage = roster, "relay"
        return roster.payload()

    def relay(self, replies: Replies) -> dict[int, Payload]:
        """Take what ``share`` gave; return for each node that gave it what its neighbours sealed.

        Raises
        ------
        SecAggAborted
            Too few answered, or an answer is not one share for each neighbour.
        """
        self._at("relay")
        roster = self._known()
        self._among(replies, roster.entries, "the roster")
        roster.check_enough(replies, "share", replies)
        relayed: dict[int, tuple[list[int], list[bytes]]] = {n: ([], []) for n in sorted(replies)}
        for sender, reply in sorted(replies.items()):
            receivers = read_nodes(reply, "to", sender)
            if tuple(receivers) != roster.graph.neighbours(sender):
                raise SecAggAborted("shares must go to each neighbour", node=sender)
            sealed = read_each(reply, "sealed", receivers, SEALED_BYTES, sender)
            self._commitments[sender] = read_bytes(reply, "commitment", HASH_BYTES, sender)
            for receiver, text in zip(receivers, sealed, strict=True):
                if receiver in relayed:
                    relayed[receiver][0].append(sender)
                    relayed[receiver][1].append(text)
        self.stage = "survivors"
        return {n: {"from": nodes, "sealed": texts} for n, (nodes, texts) in relayed.items()}

    def survivors(self, nodes: Iterable[int]) -> Payload:
        """Take the nodes whose masked vectors are in the sum; return that, for all of them.

        Raises
        ------
        SecAggAborted
            Too few are left for the sum to be opened, or for it to hide each of them.
        """
        self._at("survivors")
        roster = self._known()
        self._survivors = sorted(nodes)
        self._among(self._survivors, self._commitments, "those that shared their secrets")
        roster.check_enough(self._survivors, "mask", self._needed())
        roster.check_connected(self._survivors)
        self._signers = self._survivors
        self.stage = "signatures" if self.parameters.active else "unmask"
        return {"survivors": self._survivors}

    def signatures(self, replies: Replies) -> Payload:
        """Take what ``consistency`` gave; return all signatures, for those that signed.

        Raises
        ------
        SecAggAborted
            Too few signed, some had another model, or a signature is not valid.
        """
        self._at("signatures")
        roster = self._known()
        self._among(replies, self._survivors, "the survivors")
        model = self._one_model(replies)
        roster.check_enough(replies, "consistency", {*replies, *self._needed()})
        statement = roster.survival(model, self._survivors)
        signers = sorted(replies)
        signatures = []
        for node in signers:
            signature = read_bytes(replies[node], "signature", SIGNATURE_BYTES, node)
            if not verified(roster.entries[node].signing, signature, statement):
                raise SecAggAborted("a client's signature of the survivors is forged", node=node)
            signatures.append(signature)
        self._model, self._signers, self.stage = model, signers, "unmask"
        return {"nodes": signers, "signatures": signatures}

    def unmask(self, replies: Replies, masked_sum: Vector) -> Vector:
        """Take what ``unmask`` gave; remove the masks from the sum, in place, and return it.

        Parameters
        ----------
        replies : mapping
            By node id.
        masked_sum : ndarray of uint16, uint32 or uint64, shape (length,)
            The sum modulo ``2**bits`` of the survivors' masked vectors.

        Raises
        ------
        SecAggAborted
            Too few answered, a share is not one, or a secret's shares do not fit together. The sum
            is untouched then; where ``node`` is named, this may be called without its answer.
        RecordError
            The sum has another type or length than the parameters say, or is not contiguous.
        """
        self._at("unmask")
        roster = self._known()
        self.parameters.check_vector(masked_sum)
        self._among(replies, self._signers, "those that were asked")
        model = self._one_model(replies)
        needed = self._needed()
        roster.check_enough(replies, "unmask", needed)
        opening = Opening(roster, self._survivors, self._commitments)
        for node, reply in sorted(replies.items()):
            opening.add(node, reply)
        add_masks(masked_sum, opening.masks(needed, model))
        self.stage = "done"
        return masked_sum

    def _needed(self) -> list[int]:
        """Return whose secrets must be opened: the survivors', and those dropped beside them."""
        graph, here = self._known().graph, set(self._survivors)
        return [n for n in sorted(self._commitments) if here.intersection(graph.closed(n))]

    def _one_model(self, replies: Replies) -> bytes:
        models: dict[bytes, list[int]] = {}
        for node, reply in replies.items():
            model = read_bytes(reply, "model", HASH_BYTES, node)
            if self._model and model != self._model:
                raise SecAggAborted("a client names another model than it signed", node=node)
            models.setdefault(model, []).append(node)
        if len(models) > 1:
            fewest = min(models.values(), key=len)
            raise SecAggAborted(
                f"clients had different models: nodes {named(fewest)} unlike the others",
                hint="every client of a round must get the same bytes",
            )
        if not models:
            raise SecAggAborted("no client answered")
        return next(iter(models))

    def _among(self, nodes: Iterable[int], known: Iterable[int], whom: str) -> None:
        strangers = set(nodes).difference(known)
        if strangers:
            raise SecAggAborted(f"nodes {named(strangers)} are not among {whom}")

    def _known(self) -> Roster:
        assert self._roster is not None  # every stage after the first has one
        return self._roster

    def _at(self, stage: ServerStage) -> None:
        if self.stage != stage:
            raise InvalidTransition(
                f"step {stage!r} of a secure aggregation that is at {self.stage!r}"
            )

    def to_bytes(self) -> bytes:
        """Return the session as bytes; they hold no secret."""
        known = {
            "parameters": self.parameters.payload(),
            "session": self.session.hex(),
            "nodes": self.nodes,
            "stage": self.stage,
            "roster": None if self._roster is None else roster_to_json(self._roster),
            "commitments": [[node, text.hex()] for node, text in self._commitments.items()],
            "model": self._model.hex(),
            "survivors": self._survivors,
            "signers": self._signers,
        }
        return json.dumps(known, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, state: bytes) -> ServerSession:
        """Return the session that ``to_bytes`` made.

        Raises
        ------
        SecAggAborted
            The bytes are something else.
        """
        try:
            known = json.loads(state)
            parameters = SecAggParameters.of(known["parameters"])
            made = cls(parameters, bytes.fromhex(known["session"]), known["nodes"])
            made.stage = known["stage"]
            if known["roster"] is not None:
                made._roster = roster_from_json(parameters, made.session, known["roster"])
            made._commitments = {node: bytes.fromhex(text) for node, text in known["commitments"]}
            made._model = bytes.fromhex(known["model"])
            made._survivors, made._signers = known["survivors"], known["signers"]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise SecAggAborted("a kept session cannot be read") from error
        return made
