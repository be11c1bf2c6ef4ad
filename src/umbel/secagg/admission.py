"""What a client checks before it believes the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.base import SecAggAborted
from umbel.secagg.clientstate import ClientState
from umbel.secagg.keys import SIGNATURE_BYTES, verified
from umbel.secagg.payloads import named, read_each, read_nodes
from umbel.secagg.roster import Roster


def check_roster(state: ClientState, roster: Roster) -> None:
    """Refuse a roster that this client must not share its secrets in.

    Raises
    ------
    SecAggAborted
        Its own keys are not in it, it is too small or too weak, or its entries are not good.
    """
    if roster.entries.get(state.node) != state.entry:
        raise SecAggAborted("the roster does not have this client's keys", node=state.node)
    _check_cohort(state, len(roster.entries), "the roster has")
    roster.check(state.trusted, state.node)
    withstood = state.parameters.withstands(roster.graph.size)
    if withstood < state.colluders:
        raise SecAggAborted(
            f"the threshold of {state.parameters.threshold} in neighbourhoods of "
            f"{roster.graph.size} withstands {withstood} colluding neighbours, and this client "
            f"asks for {state.colluders}",
            node=state.node,
        )


def admitted_survivors(state: ClientState, payload: Mapping[str, Any]) -> list[int]:
    """Return who survived, if that can be and is safe.

    Raises
    ------
    SecAggAborted
        This client is not among them, they are too few or fall apart into groups, or the server
        withheld something.
    """
    roster = state.known_roster()
    survivors = read_nodes(payload, "survivors")
    here = set(survivors)
    if state.node not in here:
        raise SecAggAborted(
            "the server says that this client dropped out, and it has not", node=state.node
        )
    strangers = here.difference(roster.entries)
    if strangers:
        raise SecAggAborted(f"survivors are not in the roster: {named(strangers)}")
    _check_cohort(state, len(survivors), "the sum would be over")
    roster.check_enough(survivors, "mask", [state.node])
    unheard = here.intersection(roster.graph.neighbours(state.node)).difference(state.shares)
    if unheard:
        raise SecAggAborted(
            f"the server says that nodes survived whose shares it withheld: {named(unheard)}",
            node=state.node,
        )
    roster.check_connected(survivors)
    return survivors


def check_signatures(state: ClientState, payload: Mapping[str, Any]) -> None:
    """Refuse to go on unless enough others signed the same model and the same survivors.

    Raises
    ------
    SecAggAborted
        Too few signed, or one signed something else.
    """
    roster = state.known_roster()
    signers = read_nodes(payload, "nodes")
    strangers = set(signers).difference(state.survivors)
    if strangers:
        raise SecAggAborted(
            f"signatures came from nodes not among the survivors: {named(strangers)}"
        )
    roster.check_enough(signers, "consistency", [state.node])
    statement = roster.survival(state.model, state.survivors)
    signatures = read_each(payload, "signatures", signers, SIGNATURE_BYTES)
    for signer, signature in zip(signers, signatures, strict=True):
        if not verified(roster.entries[signer].signing, signature, statement):
            raise SecAggAborted(
                "a client did not sign the same model and the same survivors: the server "
                "shows different ones to different clients, or the signature is forged",
                node=signer,
            )


def _check_cohort(state: ClientState, size: int, what: str) -> None:
    if size < state.minimum_cohort:
        raise SecAggAborted(
            f"{what} {size} clients, and this client joins no sum of fewer than "
            f"{state.minimum_cohort}",
            node=state.node,
        )
