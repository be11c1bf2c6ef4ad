"""Judging a client in any language. The kit is imported when it is used: nodes stay small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from umbel.records import DEFAULT_CODEC


class Verdict(NamedTuple):
    """What came of a case of the conformance kit.

    Attributes
    ----------
    name, title : str
        The case, and what it asks for in a sentence.
    wrong : str
        What the client got wrong; empty when it passed.
    """

    name: str
    title: str
    wrong: str

    @property
    def passed(self) -> bool:
        """Whether the client did what was asked."""
        return not self.wrong


async def judge_client(
    listen: str,
    cases: Sequence[str] = (),
    *,
    client_app: str = "echo_app:app",
    patience_s: float = 20.0,
    wait_s: float = 300.0,
    codec: str = DEFAULT_CODEC,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Play the server, without TLS, against the client that connects, and judge it.

    What the client is to run is said in ``docs/wire.md``.

    Parameters
    ----------
    listen : str
        Where to listen, ``"host:port"``.
    cases : sequence of str
        The names of the cases to be played; all of them if it is empty.
    client_app : str
        What runs name as their client app.
    patience_s : float
        How long the client may take for a message, and to come back.
    wait_s : float
        How long it may take to connect at first.
    codec : str
        In which contents travel; the client is to offer it.
    on_verdict : callable
        Called with each verdict when it is there.

    Raises
    ------
    NotFound
        There is no case of that name.
    ConfigError
        There is no codec of that name.
    ReplyTimeout
        No client connected.
    """
    from umbel.deployment.conformance import play_cases

    return await play_cases(listen, cases, client_app, patience_s, wait_s, codec, on_verdict)
