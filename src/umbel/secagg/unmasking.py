"""How the server opens the secrets that it may open, and which masks follow from them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from umbel.base import SecAggAborted, derive_key
from umbel.secagg.keys import agreed, public_of
from umbel.secagg.masks import SignedKey, pair_key, pair_sign, self_key
from umbel.secagg.payloads import named, read_each, read_nodes
from umbel.secagg.roster import Roster
from umbel.secagg.shamir import SHARE_BYTES, check_share, combine


class Opening:
    """The shares that came: of survivors' seeds, and of the mask keys of those that dropped out.

    Parameters
    ----------
    roster : Roster
        The session's.
    survivors : sequence of int
        Whose vectors are in the sum.
    commitments : mapping of int to bytes
        What each client that shared its secrets said of its seed.
    """

    def __init__(
        self, roster: Roster, survivors: Sequence[int], commitments: Mapping[int, bytes]
    ) -> None:
        self._roster = roster
        self._alive = set(survivors)
        self._commitments = commitments
        self._shares: dict[int, dict[int, bytes]] = {}

    def add(self, holder: int, reply: Mapping[str, Any]) -> None:
        """Take one client's shares.

        Raises
        ------
        SecAggAborted
            They are not those that it was asked for.
        """
        held = set(self._roster.graph.closed(holder)).intersection(self._commitments)
        kinds = (
            ("stayed", "seed_shares", held & self._alive),
            ("dropped", "key_shares", held - self._alive),
        )
        for key, shares_key, expected in kinds:
            owners = read_nodes(reply, key, holder)
            if set(owners) != expected:
                raise SecAggAborted(
                    "a client gave shares of other secrets than it was asked for", node=holder
                )
            shares = read_each(reply, shares_key, owners, SHARE_BYTES, holder)
            for owner, share in zip(owners, shares, strict=True):
                check_share(share, holder)
                self._shares.setdefault(owner, {})[holder] = share

    def masks(self, needed: Sequence[int], model: bytes) -> list[SignedKey]:
        """Return the masks to add to the sum so that those in it vanish.

        Raises
        ------
        SecAggAborted
            A secret's shares do not give what its owner said of it.
        """
        binding = self._roster.binding(model)
        stayed = [node for node in needed if node in self._alive]
        dropped = [node for node in needed if node not in self._alive]
        masks = [
            (self_key(seed, binding), -1) for seed in self._opened(stayed, self._fits_seed).values()
        ]
        for node, private in self._opened(dropped, self._fits_key).items():
            for other in self._roster.graph.neighbours(node):
                if other in self._alive:
                    secret = agreed(private, self._roster.entries[other].mask, other)
                    # What ``other`` did with the mask of the two is undone.
                    masks.append((pair_key(secret, binding), -pair_sign(other, node)))
        return masks

    def _opened(
        self, owners: Sequence[int], fits: Callable[[int, bytes], bool]
    ) -> dict[int, bytes]:
        # Secrets whose shares come from the same points are opened together.
        groups: dict[tuple[int, ...], list[tuple[int, list[bytes]]]] = {}
        for owner in owners:
            circle = self._roster.graph.closed(owner)
            held = self._shares[owner]
            points = [i + 1 for i, holder in enumerate(circle) if holder in held]
            points = points[: self._roster.parameters.threshold]
            shares = [held[circle[point - 1]] for point in points]
            groups.setdefault(tuple(points), []).append((owner, shares))
        opened: dict[int, bytes] = {}
        for chosen, members in groups.items():
            secrets = combine(chosen, [shares for _, shares in members])
            for (owner, _), secret in zip(members, secrets, strict=True):
                if secret is None or not fits(owner, secret):
                    raise self._wrong(owner, chosen)
                opened[owner] = secret
        return opened

    def _wrong(self, owner: int, points: Sequence[int]) -> SecAggAborted:
        circle = self._roster.graph.closed(owner)
        holders = named(circle[point - 1] for point in points)
        return SecAggAborted(
            "the shares of a client's secret do not give what it said of the secret: the client "
            f"dealt wrong shares, or one of nodes {holders} returned a wrong one",
            node=owner,
        )

    def _fits_seed(self, owner: int, seed: bytes) -> bool:
        said = derive_key(seed, "commitment", self._roster.hash)
        return hmac.compare_digest(said, self._commitments[owner])

    def _fits_key(self, owner: int, private: bytes) -> bool:
        return public_of(private) == self._roster.entries[owner].mask
