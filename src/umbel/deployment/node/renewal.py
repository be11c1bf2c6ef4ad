"""A node's certificate is renewed while it is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from umbel.base import SYSTEM_CLOCK, UmbelError
from umbel.deployment.certificates import make_request
from umbel.deployment.identity import Identity

_CHECK_S = 3600.0


async def keep_certificate(
    identity: Identity,
    folder: Path,
    renewal: Callable[[bytes], Awaitable[bytes]],
    say: Callable[[str], None],
) -> None:
    """Renew a certificate each time that a third of its lifetime is left; never returns.

    The session goes on with the old one. The next finds the new one in the folder.

    Parameters
    ----------
    identity : Identity
        What was shown to the server.
    folder : Path
        Where it lies.
    renewal : callable
        Turns a certificate request into a certificate (PEM), or raises an ``UmbelError``.
    say : callable
        Told what became of it.
    """
    while True:
        now = SYSTEM_CLOCK.now()
        if now >= identity.renew_at:
            try:
                certificate = await renewal(make_request(identity.key_pem))
                identity = identity.renew(folder, certificate)
                say(f"renewed: {identity.end_text(now)}")
            except (UmbelError, OSError) as error:
                say(f"{identity.end_text(now)}, and was not renewed: {error} (trying again)")
        await asyncio.sleep(_CHECK_S)
