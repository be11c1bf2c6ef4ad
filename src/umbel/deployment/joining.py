"""Joining a server with a token: a key of one's own, and a certificate for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from umbel.base import SYSTEM_CLOCK, Unreachable
from umbel.deployment.certificates import make_request
from umbel.deployment.channel import Credentials
from umbel.deployment.identity import Identity, joining_key
from umbel.deployment.tokens import JoinToken
from umbel.deployment.user import enrol


def join(
    token: JoinToken, folder: Path, name: str, tags: Mapping[str, str] | None = None
) -> Identity:
    """Get a certificate with the token, and keep it in the folder.

    Parameters
    ----------
    token : JoinToken
        From whoever runs the server.
    folder : Path
        Where key and certificate are kept; the key never leaves it.
    name : str
        What the joining side calls itself.
    tags : mapping, optional
        What a node says about itself.

    Raises
    ------
    Unreachable
        None of the token's addresses answers.
    TokenExpired, TokenUsed
        The token is good no more.
    """
    key = joining_key(folder, token.ca_pem, SYSTEM_CLOCK.now())
    credentials = Credentials(token.ca_pem, token.key_pem, token.cert_pem)
    failure: Unreachable | None = None
    for address in token.addresses:
        try:
            certificate, _ = enrol(address, credentials, make_request(key), name, tags)
        except Unreachable as error:
            failure = error
            continue
        identity = Identity(key, certificate, token.ca_pem, address)
        identity.check_valid(SYSTEM_CLOCK.now())
        identity.save(folder)
        return identity
    raise failure or Unreachable("the token holds no address")
