"""The conformance kit: all cases, played against the client that connects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from umbel.deployment.addresses import split_address
from umbel.deployment.conformance.player import Player, chosen, judged
from umbel.deployment.conformance.server import ScriptedServer
from umbel.deployment.conformance.sessions import SESSIONS
from umbel.deployment.conformance.tasks import TASKS
from umbel.deployment.conformance.transfers import TRANSFERS
from umbel.deployment.judging import Verdict
from umbel.records import codec_of

CASES = (*SESSIONS[:1], *TASKS, *TRANSFERS, *SESSIONS[1:])


async def play_cases(
    listen: str,
    names: Sequence[str],
    client_app: str,
    patience_s: float,
    wait_s: float,
    codec: str,
    on_verdict: Callable[[Verdict], None],
) -> list[Verdict]:
    """Play the cases; see ``judge_client``, which is how others call it."""
    cases = chosen(CASES, names)
    form = codec_of(codec)
    host, port = split_address(listen)
    server = ScriptedServer(f"[{host}]" if ":" in host else host, port, patience_s)
    await server.start()
    player = Player(server, client_app, form)
    try:
        await player.next_session(wait_s)
        verdicts = []
        for case in cases:
            verdicts.append(await judged(player, case))
            on_verdict(verdicts[-1])
        return verdicts
    finally:
        player.hang_up()
        await server.stop()
