"""What a client keeps between the steps of a session, and as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from umbel.base import SecAggAborted
from umbel.secagg.parameters import SecAggParameters
from umbel.secagg.roster import Entry, Roster

Stage: TypeAlias = Literal["advertise", "share", "mask", "consistency", "unmask", "done", "aborted"]

_SECRETS = ("signing_key", "cipher_key", "mask_key", "self_seed", "dealing_key")


@dataclass
class ClientState:
    """A client's session between two steps.

    Secrets are empty bytes once they are no longer needed. Python cannot promise that no copy of
    them is left in memory; that nothing written down holds them, it can.
    """

    parameters: SecAggParameters
    session: bytes
    node: int
    minimum_cohort: int
    colluders: int
    trusted: frozenset[bytes] | None
    entry: Entry
    signing_key: bytes = field(repr=False)
    cipher_key: bytes = field(repr=False)
    mask_key: bytes = field(repr=False)
    self_seed: bytes = field(repr=False)
    dealing_key: bytes = field(repr=False)
    stage: Stage = "advertise"
    roster: Roster | None = None
    shares: dict[int, bytes] = field(default_factory=dict, repr=False)
    model: bytes = b""
    survivors: list[int] = field(default_factory=list)

    def known_roster(self) -> Roster:
        """Return the roster, which every step after ``share`` has."""
        assert self.roster is not None
        return self.roster

    def forget_keys(self) -> None:
        """Forget what is not needed once the vector is masked."""
        self.cipher_key = self.mask_key = self.self_seed = self.dealing_key = b""

    def forget(self) -> None:
        """Forget every secret."""
        self.forget_keys()
        self.signing_key = b""
        self.shares = {}

    def to_bytes(self) -> bytes:
        """Return the state as JSON."""
        known = {
            "parameters": self.parameters.payload(),
            "session": self.session.hex(),
            "node": self.node,
            "minimum_cohort": self.minimum_cohort,
            "colluders": self.colluders,
            "trusted": None if self.trusted is None else sorted(k.hex() for k in self.trusted),
            "entry": entry_to_json(self.entry),
            "stage": self.stage,
            "roster": None if self.roster is None else roster_to_json(self.roster),
            "shares": [[node, share.hex()] for node, share in self.shares.items()],
            "model": self.model.hex(),
            "survivors": self.survivors,
            **{name: getattr(self, name).hex() for name in _SECRETS},
        }
        return json.dumps(known, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, state: bytes) -> ClientState:
        """Return the state that ``to_bytes`` made.

        Raises
        ------
        SecAggAborted
            The bytes are something else.
        """
        try:
            known = json.loads(state)
            parameters = SecAggParameters.of(known["parameters"])
            session, trusted = bytes.fromhex(known["session"]), known["trusted"]
            rows = known["roster"]
            return cls(
                parameters=parameters,
                session=session,
                node=known["node"],
                minimum_cohort=known["minimum_cohort"],
                colluders=known["colluders"],
                trusted=None if trusted is None else frozenset(map(bytes.fromhex, trusted)),
                entry=entry_from_json(known["entry"]),
                stage=known["stage"],
                roster=None if rows is None else roster_from_json(parameters, session, rows),
                shares={node: bytes.fromhex(share) for node, share in known["shares"]},
                model=bytes.fromhex(known["model"]),
                survivors=known["survivors"],
                **{name: bytes.fromhex(known[name]) for name in _SECRETS},
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise SecAggAborted("a kept session cannot be read") from error


def entry_to_json(entry: Entry) -> list[Any]:
    """Return an entry as a node id and hexadecimal keys."""
    keys = (entry.identity, entry.signing, entry.cipher, entry.mask, entry.signature)
    return [entry.node, *(key.hex() for key in keys)]


def entry_from_json(row: list[Any]) -> Entry:
    """Return the entry that ``entry_to_json`` made."""
    return Entry(row[0], *map(bytes.fromhex, row[1:]))


def roster_to_json(roster: Roster) -> list[list[Any]]:
    """Return a roster's entries."""
    return [entry_to_json(entry) for entry in roster.entries.values()]


def roster_from_json(parameters: SecAggParameters, session: bytes, rows: list[list[Any]]) -> Roster:
    """Return the roster that ``roster_to_json`` made; it was checked before it was kept."""
    return Roster(parameters, session, map(entry_from_json, rows))
