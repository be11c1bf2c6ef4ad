"""The server's own certificate while it runs: kept, shown, and watched."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any, cast

import grpc

from umbel.base import SYSTEM_CLOCK, UmbelError
from umbel.deployment.certificates import day_text, valid_until
from umbel.deployment.channel import Credentials
from umbel.deployment.identity import Identity
from umbel.deployment.server.settings import ServerSettings, renewed_in_time

_LOGGER = logging.getLogger("umbel.deployment")
_CHECK_S = 3600.0
_DAY_S = 86_400.0
_WARN_DAYS = 365
"""So long before its end the authority is spoken of."""


class ServerCertificate:
    """What a server shows in handshakes: always the newest certificate that it has.

    Parameters
    ----------
    settings : ServerSettings
        Where the certificate lies, and who signs the next.
    credentials : Credentials
        The settings', which are there.
    """

    def __init__(self, settings: ServerSettings, credentials: Credentials) -> None:
        self._settings = settings
        self._own = self._shown = Identity(
            credentials.key, credentials.certificate, credentials.authority
        )
        self._days_told: dict[str, int] = {}

    def for_handshakes(self) -> grpc.ServerCredentials:
        """Return what gRPC asks for the certificate at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            cast(Any, self._if_changed),  # the stubs do not know that it may return None
            require_client_authentication=self._settings.client_certificates,
        )

    def ends(self) -> dict[str, float]:
        """Return when the certificates end, in seconds since the Unix epoch, by whose they are."""
        ends = {"server": self._own.valid_until}
        if self._settings.authority is not None:
            ends["authority"] = valid_until(self._settings.authority.ca_pem)
        return ends

    async def keep(self) -> None:
        """Renew the certificate in time, and warn before one ends that cannot be; never returns."""
        while True:
            self._look(SYSTEM_CLOCK.now())
            await asyncio.sleep(_CHECK_S)

    def _look(self, now: float) -> None:
        settings = self._settings
        if settings.identity_dir is not None and settings.authority is not None:
            own = (settings.identity_dir, settings.authority, settings.certificate_days)
            try:
                self._own = replace(renewed_in_time(*own, now), ca_pem=self._own.ca_pem)
            except (UmbelError, OSError) as error:
                _LOGGER.warning("the server's certificate was not renewed: %s", error)
        for name, end in self.ends().items():
            days = int((end - now) // _DAY_S)
            ends_soon = now >= self._own.renew_at if name == "server" else days < _WARN_DAYS
            if ends_soon and self._days_told.get(name) != days:
                self._days_told[name] = days
                _LOGGER.warning(
                    "the certificate of the %s ends on %s, in %d days; see docs/deploying.md",
                    *(name, day_text(end), days),
                )

    def _if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificate if it is not the one of before; gRPC calls it in its threads."""
        if self._own.cert_pem == self._shown.cert_pem:
            return None
        self._shown = self._own
        return self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        own, asks = self._shown, self._settings.client_certificates
        return grpc.ssl_server_certificate_configuration(
            [(own.key_pem, own.cert_pem)], root_certificates=own.ca_pem if asks else None
        )
