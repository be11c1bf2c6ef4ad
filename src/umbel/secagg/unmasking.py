"""How the server opens the secrets that it may open, and which masks follow from them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from umbel.base import SecAggAborted, derive_key
from umbel.secagg.keys import agreed, public_of
from umbel.secagg.masks import SignedKey, pair_key, pair_sign, self_key
from umbel.secagg.payloads import named, read_each, read_nodes
from umbel.secagg.roster import Roster
from umbel.secagg.shamir import SHARE_BYTES, check_share, combine

Fits: TypeAlias = Callable[[int, bytes], bool]
"""Whether a client's secret is the one that it committed itself to."""


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
                    key = pair_key(secret, binding, other, node)
                    masks.append((key, -pair_sign(other, node)))
        return masks

    def _opened(self, owners: Sequence[int], fits: Fits) -> dict[int, bytes]:
        # Secrets whose shares come from the same points are opened together.
        groups: dict[tuple[int, ...], list[int]] = {}
        for owner in owners:
            points = self._points(owner)[: self._roster.parameters.threshold]
            groups.setdefault(tuple(points), []).append(owner)
        opened: dict[int, bytes] = {}
        for chosen, members in groups.items():
            for owner, secret in zip(members, self._combined(chosen, members), strict=True):
                if secret is None or not fits(owner, secret):
                    raise self._wrong(owner, chosen, fits)
                opened[owner] = secret
        return opened

    def _points(self, owner: int) -> list[int]:
        """Return the points of a client's shares that came."""
        circle, held = self._roster.graph.closed(owner), self._shares[owner]
        return [i + 1 for i, holder in enumerate(circle) if holder in held]

    def _combined(self, points: Sequence[int], owners: Sequence[int]) -> list[bytes | None]:
        circles = {owner: self._roster.graph.closed(owner) for owner in owners}
        shares = [[self._shares[o][circles[o][p - 1]] for p in points] for o in owners]
        return combine(points, shares)

    def _wrong(self, owner: int, points: Sequence[int], fits: Fits) -> SecAggAborted:
        """Return the error that names who returned a wrong share, if one other in its place fits.

        Which of the two gave the wrong one cannot be told; but without this answer all comes out.
        """
        circle = self._roster.graph.closed(owner)
        for spare in [point for point in self._points(owner) if point not in points][:1]:
            for point in points:
                (secret,) = self._combined([spare, *(p for p in points if p != point)], [owner])
                if secret is not None and fits(owner, secret):
                    return SecAggAborted(
                        f"a share of the secret of node {owner} does not fit the others: it was "
                        "dealt wrong, or this client returned another one",
                        node=circle[point - 1],
                    )
        holders = named(circle[point - 1] for point in points)
        return SecAggAborted(
            f"the shares of the secret of node {owner} do not give what it said of the secret: it "
            f"dealt wrong shares, or one of nodes {holders} returned a wrong one",
        )

    def _fits_seed(self, owner: int, seed: bytes) -> bool:
        said = derive_key(seed, "commitment", self._roster.hash)
        return hmac.compare_digest(said, self._commitments[owner])

    def _fits_key(self, owner: int, private: bytes) -> bool:
        return public_of(private) == self._roster.entries[owner].mask
