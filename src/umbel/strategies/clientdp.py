"""Wrapper for updates that the clients clip and the server noises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Unpack

import numpy as np

from umbel.base import RejectedReply
from umbel.clientapp import DP_RECORD, bound_in_words
from umbel.privacy import AdaptiveBound, clip
from umbel.records import ArrayRecord, ConfigRecord, Message, RecordDict
from umbel.serverapp import Grid, Strategy
from umbel.strategies.centraldp import CentralDP, CentralDPOptions, Clipping
from umbel.strategies.clippedmean import ClippedMean, check_shapes
from umbel.updates import Arrays


class ClippedUpdates(ClippedMean):
    """The mean of updates that the clients have clipped; a longer one is clipped once more."""

    def answering(self, sent: RecordDict) -> None:
        """Do nothing: what comes are updates already."""

    def _update(self, arrays: Arrays, content: RecordDict) -> tuple[Arrays, bool]:
        told = content.config_records.get(DP_RECORD)
        asked = bound_in_words(self.bound)
        if told is None or any(told.get(key) != value for key, value in asked.items()):
            raise RejectedReply(
                "its update was not clipped at the client to the bound that was asked for",
                hint="give the client app mods=[dp_client_mod]",
            )
        check_shapes(self.shapes, arrays)
        update = {key: np.asarray(arrays[key], dtype) for key, dtype in self.moving.items()}
        return clip(update, self.bound).update, bool(told.get("within"))


class ClientDP(CentralDP):
    """A strategy whose clients clip their updates; :func:`with_client_dp` makes it.

    The parameters are those of :class:`CentralDP`.
    """

    replies_are: ClassVar[str] = "clipped updates"
    clipped_at: ClassVar[str] = "client"
    folds: ClassVar[type[ClippedMean]] = ClippedUpdates

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        asked = bound_in_words(self._bound())
        asked["record"] = self.arrayrecord_key
        if isinstance(self.clipping, AdaptiveBound):
            asked["adaptive"] = True
        for message in super().configure_train(server_round, arrays, config, grid):
            message.content[DP_RECORD] = asked
            yield message


def with_client_dp(
    strategy: Strategy,
    *,
    clipping: Clipping,
    **options: Unpack[CentralDPOptions],
) -> ClientDP:
    """Return a strategy that does the same, with updates that the clients clip themselves.

    The client app has ``mods=[umbel.clientapp.dp_client_mod]``. The bound goes out with the
    message, updates come back instead of models, and the server adds noise as ``with_central_dp``
    does: the promise is the same, and the server is trusted alike. What differs is where the work
    of clipping is done.

    Parameters
    ----------
    strategy, clipping, **options
        See :func:`with_central_dp`: ``noise_multiplier``, ``cohort``, ``delta`` and the rest. With
        an ``AdaptiveBound`` each client tells whether its update was within the bound.

    Raises
    ------
    ConfigError
        As :func:`with_central_dp` does.

    Examples
    --------
    >>> from umbel.strategies import FedAvg
    >>> with_client_dp(
    ...     FedAvg(), noise_multiplier=1.0, clipping=0.5, cohort=100, delta=1e-5
    ... ).clipped_at
    'client'
    """
    return ClientDP(strategy, clipping=clipping, **options)
