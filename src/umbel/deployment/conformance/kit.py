"""The conformance kit: all cases, played against the client that connects."""

from __future__ import annotations

from collections.abc import Callable

from umbel.deployment.addresses import split_address
from umbel.deployment.conformance.player import Player, Verdict, chosen, judged
from umbel.deployment.conformance.server import ScriptedServer
from umbel.deployment.conformance.sessions import SESSIONS
from umbel.deployment.conformance.tasks import TASKS
from umbel.deployment.conformance.transfers import TRANSFERS

CASES = (*SESSIONS[:1], *TASKS, *TRANSFERS, *SESSIONS[1:])


async def play_cases(
    listen: str,
    names: list[str],
    client_app: str,
    patience_s: float,
    wait_s: float,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Play the server against the client that connects, without TLS, and judge it.

    Parameters
    ----------
    listen : str
        Where to listen, ``"host:port"``.
    names : list of str
        The cases to be played; all of them if it is empty.
    client_app : str
        What runs name as their client app.
    patience_s : float
        How long the client may take for a message, and to come back.
    wait_s : float
        How long it may take to connect at first.
    on_verdict : callable
        Called with each verdict when it is there.

    Raises
    ------
    NotFound
        There is no case of that name.
    ReplyTimeout
        No client connected.
    """
    cases = chosen(CASES, names)
    host, port = split_address(listen)
    server = ScriptedServer(f"[{host}]" if ":" in host else host, port, patience_s)
    await server.start()
    try:
        player = Player(server, client_app)
        await player.next_session(wait_s)
        verdicts = []
        for case in cases:
            verdicts.append(await judged(player, case))
            on_verdict(verdicts[-1])
        return verdicts
    finally:
        await server.stop()
