"""Events of tokens and nodes."""

from __future__ import annotations

from dataclasses import replace

from umbel.coordinator.bookkeeping import part, session_of
from umbel.coordinator.effects import CloseSession, Effect, Reject
from umbel.coordinator.events import (
    NodeJoined,
    NodeRevoked,
    TokenCreated,
    TokensExpired,
    TokenUsed,
)
from umbel.coordinator.messages import fail_all
from umbel.coordinator.state import Node, State, Token

TOKEN_KEPT_S = 86_400.0
"""How long a token is remembered after it expired.

The date in it shuts out whoever shows it then. Were the clock put back by more than this, one that
was used could be used again.
"""


def token_created(state: State, event: TokenCreated) -> list[Effect]:
    """Remember the token."""
    if event.token in state.tokens:
        return [Reject("exists", "there is such a token already")]
    token = Token(role=event.role, name=event.name, expires_at=event.expires_at)
    state.tokens[event.token] = token
    return []


def token_used(state: State, event: TokenUsed) -> list[Effect]:
    """Spend the token."""
    return spend(state, event.token, event.fingerprint, event.at, for_node=False)


def tokens_expired(state: State, event: TokensExpired) -> list[Effect]:
    """Forget tokens that nobody can use any more."""
    for key in [key for key, token in state.tokens.items() if is_outdated(token, event.at)]:
        del state.tokens[key]
    return []


def is_outdated(token: Token, at: float) -> bool:
    """Whether a token need not be remembered."""
    return token.expires_at + TOKEN_KEPT_S < at


def spend(state: State, key: str, fingerprint: str, at: float, for_node: bool) -> list[Effect]:
    """Mark a token as used, or say why not."""
    token = state.tokens.get(key)
    if token is None:
        return [Reject("unknown", "there is no such token")]
    if (token.role == "node") != for_node:
        return [Reject("refused", f"this token is for the role {token.role!r}")]
    if token.used_by == fingerprint:
        return []  # the answer to the first attempt was lost
    if token.used_by is not None:
        return [Reject("used", "the token was used before, with another key")]
    if at > token.expires_at:
        return [Reject("expired", "the token's time is over")]
    state.tokens[key] = replace(token, used_by=fingerprint)
    return []


def node_joined(state: State, event: NodeJoined) -> list[Effect]:
    """Give a new key the next id; a known key keeps its own."""
    known = state.node_of(event.fingerprint)
    if known is not None and known.revoked:
        return [Reject("refused", f"node {known.id} was revoked")]
    if event.token is not None:
        token = state.tokens.get(event.token)
        if token is not None and token.name not in ("", event.name):
            return [Reject("refused", f"this token is for a node of the name {token.name!r}")]
        refused = spend(state, event.token, event.fingerprint, event.at, for_node=True)
        if refused:
            return refused
    if known is not None:
        state.nodes[known.id] = replace(known, name=event.name, tags=dict(event.tags))
        return []
    node = Node(
        id=len(state.nodes),
        name=event.name,
        fingerprint=event.fingerprint,
        tags=dict(event.tags),
        joined_at=event.at,
    )
    state.nodes[node.id] = node
    state.by_fingerprint[node.fingerprint] = node.id
    if state.live.started_at is not None:
        state.live.away_since[node.id] = event.at
    return []


def node_revoked(state: State, event: NodeRevoked) -> list[Effect]:
    """Shut the node out, fail what waits for it."""
    node = state.nodes.get(event.node)
    if node is None:
        return [Reject("unknown", f"there is no node {event.node}")]
    state.nodes[node.id] = replace(node, revoked=True)
    effects: list[Effect] = []
    session = session_of(state, node.id)
    if session is not None:
        part(state, session, event.at)
        effects.append(CloseSession(session.id, "this node was revoked"))
    state.live.away_since.pop(node.id, None)
    fail_all(state, node.id, "it was revoked", effects)
    return effects
