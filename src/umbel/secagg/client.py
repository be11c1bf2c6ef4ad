"""The client's side of one secure aggregation, as a state machine without I/O.

Each step takes what the server sent and returns what to send back. Between steps the session is
bytes, so that they may run in different processes. A step is taken once; a step that refuses, or
fails for another reason, ends the session and forgets its secrets. An answer follows from the state
and from what came alone: chance is drawn at the beginning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from umbel.base import ConfigError, KeyStream, SecAggAborted, derive_key, fresh_key
from umbel.secagg.admission import admitted_survivors, check_roster, check_signatures
from umbel.secagg.clientstate import ClientState, Stage
from umbel.secagg.keys import (
    SEALED_BYTES,
    Channel,
    Identity,
    agreed,
    public_of,
)
from umbel.secagg.masks import Vector, add_masks, pair_key, pair_sign, self_key
from umbel.secagg.parameters import SecAggParameters
from umbel.secagg.payloads import Payload, named, read_each, read_nodes
from umbel.secagg.roster import Entry, Roster
from umbel.secagg.shamir import SHARE_BYTES, check_share, split
from umbel.secagg.transcript import digest


class ClientSession:
    """One client in one secure aggregation (Bonawitz et al. 2017; Bell et al. 2020).

    The steps, in order: ``advertise``, ``share``, ``mask``, ``consistency`` (only if the
    parameters say ``active``), ``unmask``. Keep ``to_bytes()`` after each step, on disk, *before*
    the answer is sent. A step may be run again from the bytes before it if its answer never left.
    If it did, never: two vectors masked from the same bytes have the same masks and give away their
    difference, and two answers to ``unmask`` can open the update. Nothing here can notice that a
    state is old: do not restore one from a backup or a snapshot, and do not run copies of one.

    Examples
    --------
    >>> parameters = SecAggParameters(threshold=3, length=4)
    >>> client = ClientSession.begin(parameters, session=bytes(32), node=7)
    >>> sorted(client.advertise())
    ['cipher', 'identity', 'mask', 'signature', 'signing']
    >>> client = ClientSession.from_bytes(client.to_bytes())
    >>> client.stage
    'share'
    """

    def __init__(self, state: ClientState) -> None:
        self._state = state

    @classmethod
    def begin(
        cls,
        parameters: SecAggParameters,
        session: bytes,
        node: int,
        *,
        identity: Identity | None = None,
        trusted: Collection[bytes] | None = None,
        minimum_cohort: int = 3,
        colluders: int = 0,
    ) -> ClientSession:
        """Return a session with fresh keys.

        Parameters
        ----------
        parameters : SecAggParameters
            The session's, as the server sent them.
        session : bytes
            Its id, as the server sent it.
        node : int
            This client's node id.
        identity : Identity, optional
            By which others know this node. Without it a new one is made for this session, and
            nobody can tell who is behind it.
        trusted : collection of bytes, optional
            The identity keys of those that this client will add its update to. Without it, any:
            then a server can invent clients, and must be trusted not to.
        minimum_cohort : int
            A sum over fewer clients than this is refused; at least 2.
        colluders : int
            How many of its neighbours may collude with the server without giving away its update;
            parameters that withstand fewer are refused.

        Raises
        ------
        ConfigError
            The minimum cohort is below 2.
        """
        if minimum_cohort < 2:
            raise ConfigError(
                f"the minimum cohort must be at least 2, got {minimum_cohort}",
                hint="a sum over one client is its update",
            )
        identity = identity or Identity.generate()
        signing, cipher, mask = Identity.generate(), fresh_key(), fresh_key()
        keys = (identity.public, signing.public, public_of(cipher), public_of(mask))
        unsigned = Entry(node, *keys, signature=b"")
        signature = identity.sign(unsigned.statement(parameters, session))
        return cls(
            ClientState(
                parameters=parameters,
                session=session,
                node=node,
                minimum_cohort=minimum_cohort,
                colluders=colluders,
                trusted=None if trusted is None else frozenset(trusted),
                entry=Entry(node, *keys, signature=signature),
                signing_key=signing.private,
                cipher_key=cipher,
                mask_key=mask,
                self_seed=fresh_key(),
                dealing_key=fresh_key(),
            )
        )

    @property
    def stage(self) -> Stage:
        """The step that comes next; ``"done"`` or ``"aborted"`` at the end."""
        return self._state.stage

    @property
    def parameters(self) -> SecAggParameters:
        """The session's parameters."""
        return self._state.parameters

    def to_bytes(self) -> bytes:
        """Return the session as bytes. They hold its secrets until ``unmask`` has been taken."""
        return self._state.to_bytes()

    @classmethod
    def from_bytes(cls, state: bytes) -> ClientSession:
        """Return the session that ``to_bytes`` made.

        Raises
        ------
        SecAggAborted
            The bytes are not such a session.
        """
        return cls(ClientState.from_bytes(state))

    def advertise(self) -> Payload:
        """Return this client's public keys, signed."""
        with self._step("advertise", "share"):
            return self._state.entry.payload()

    def share(self, roster: Mapping[str, Any]) -> Payload:
        """Check the roster; return shares of this client's secrets, sealed for its neighbours.

        Parameters
        ----------
        roster : mapping
            What ``ServerSession.roster`` returned.

        Raises
        ------
        SecAggAborted
            The roster is too small, has someone twice, has keys that are not signed or not
            trusted, or does not have this client's own keys.
        """
        state = self._state
        with self._step("share", "mask"):
            known = Roster.of(state.parameters, state.session, roster)
            check_roster(state, known)
            state.roster = known
            return self._deal(known)

    def _deal(self, roster: Roster) -> Payload:
        state, holders = self._state, roster.graph.closed(self._state.node)
        secret = state.self_seed + state.mask_key
        # Not drawn anew: a step that is run again must not seal other shares under the same keys.
        # And not from what is shared: whoever opens that would know the other secret's polynomial.
        stream = KeyStream(derive_key(state.dealing_key, "polynomials", roster.hash))
        shares = split(secret, len(holders), state.parameters.threshold, stream)
        sealed = []
        for holder, share in zip(holders, shares, strict=True):
            if holder == state.node:
                state.shares[holder] = share
            else:
                sealed.append(self._channel(holder, sending=True).seal(share))
        return {
            "to": list(roster.graph.neighbours(state.node)),
            "sealed": sealed,
            "commitment": derive_key(state.self_seed, "commitment", roster.hash),
        }

    def mask(self, vector: Vector, model_hash: bytes, shares: Mapping[str, Any]) -> Vector:
        """Mask a vector in place, and return it.

        Parameters
        ----------
        vector : ndarray of uint16, uint32 or uint64, shape (length,)
            What to add to the sum, contiguous; it is overwritten.
        model_hash : bytes
            The hash of the model that this client got, computed by this client.
        shares : mapping
            This node's part of what ``ServerSession.relay`` returned.

        Raises
        ------
        SecAggAborted
            Too few neighbours' shares came, or some are forged or from elsewhere.
        RecordError
            The vector has another type or length than the parameters say.
        """
        state = self._state
        state.parameters.check_vector(vector)
        with self._step("mask", "consistency" if state.parameters.active else "unmask"):
            roster = state.known_roster()
            self._receive(roster, shares)
            state.model = digest("model", model_hash)
            binding = roster.binding(state.model)
            masks = [(self_key(state.self_seed, binding), 1)]
            for other in state.shares:
                if other != state.node:
                    secret = agreed(state.mask_key, roster.entries[other].mask, other)
                    key = pair_key(secret, binding, state.node, other)
                    masks.append((key, pair_sign(state.node, other)))
            add_masks(vector, masks)
            state.forget_keys()
        return vector

    def _receive(self, roster: Roster, payload: Mapping[str, Any]) -> None:
        state = self._state
        senders = read_nodes(payload, "from")
        strangers = set(senders).difference(roster.graph.neighbours(state.node))
        if strangers:
            raise SecAggAborted(
                f"shares came from nodes that are no neighbours: {named(strangers)}"
            )
        if len(senders) + 1 < state.parameters.threshold:
            raise SecAggAborted(
                f"the shares of only {len(senders)} neighbours came: with this client that is "
                f"below the threshold of {state.parameters.threshold}",
                node=state.node,
            )
        for sender, sealed in zip(
            senders, read_each(payload, "sealed", senders, SEALED_BYTES), strict=True
        ):
            share = self._channel(sender, sending=False).open(sealed)
            for half in (share[:SHARE_BYTES], share[SHARE_BYTES:]):
                check_share(half, sender)
            state.shares[sender] = share

    def consistency(self, survivors: Mapping[str, Any]) -> Payload:
        """Check who is said to have survived, and sign it together with the model's hash.

        Parameters
        ----------
        survivors : mapping
            What ``ServerSession.survivors`` returned.

        Raises
        ------
        SecAggAborted
            Too few survived, this client is not among them, or they fall apart into groups.
        """
        with self._step("consistency", "unmask"):
            state = self._state
            state.survivors = admitted_survivors(state, survivors)
            statement = state.known_roster().survival(state.model, state.survivors)
            return {
                "model": state.model,
                "signature": Identity(state.signing_key).sign(statement),
            }

    def unmask(self, signatures: Mapping[str, Any]) -> Payload:
        """Check that all saw the same; return one share for each neighbour, and forget the rest.

        For a survivor it is the share of its own mask's seed, for one that dropped out the share
        of its mask key: never both.

        Parameters
        ----------
        signatures : mapping
            What ``ServerSession.signatures`` returned; with ``active=False``, what
            ``ServerSession.survivors`` returned.

        Raises
        ------
        SecAggAborted
            Too few signed, or one signed something else: another model, or other survivors.
        """
        state = self._state
        with self._step("unmask", "done"):
            if state.parameters.active:
                check_signatures(state, signatures)
            else:
                state.survivors = admitted_survivors(state, signatures)
            alive = set(state.survivors)
            stayed = sorted(alive.intersection(state.shares))
            dropped = sorted(set(state.shares) - alive)
            answer: Payload = {
                "model": state.model,
                "stayed": stayed,
                "seed_shares": [state.shares[node][:SHARE_BYTES] for node in stayed],
                "dropped": dropped,
                "key_shares": [state.shares[node][SHARE_BYTES:] for node in dropped],
            }
            state.forget()
        return answer

    def _channel(self, other: int, *, sending: bool) -> Channel:
        state, roster = self._state, self._state.known_roster()
        secret = agreed(state.cipher_key, roster.entries[other].cipher, other)
        ends = (state.node, other) if sending else (other, state.node)
        return Channel(secret, state.session, roster.hash, *ends)

    @contextmanager
    def _step(self, stage: Stage, following: Stage) -> Iterator[None]:
        state = self._state
        if state.stage != stage:
            raise SecAggAborted(
                f"step {stage!r} was asked for, and the session is at {state.stage!r}: each step "
                "is taken once, in order",
                node=state.node,
            )
        try:
            yield
        except BaseException:
            state.forget()
            state.stage = "aborted"
            raise
        state.stage = following
