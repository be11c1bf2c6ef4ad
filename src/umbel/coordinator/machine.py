"""`step`: the only function that changes the state."""

from __future__ import annotations

from umbel.coordinator.effects import Effect
from umbel.coordinator.events import Event
from umbel.coordinator.state import State


def step(state: State, event: Event) -> list[Effect]:
    """Change the state by what happened and return what is to be done about it, in order.

    The shell steps first; a durable event whose effects are not one `Reject` goes to the journal
    (`must_journal`), and only then are the effects carried out.

    Raises
    ------
    InvalidTransition
        If the event cannot happen in this state: a defect of the shell, not of a peer.
    """
    raise NotImplementedError
