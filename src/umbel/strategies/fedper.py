"""Personal layers: parts of the model that every client keeps for itself (FedPer, FedBN)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from umbel.base import ConfigError, RejectedReply
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid
from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import BATCH_STATISTICS, Aggregator, Mapped, checked_patterns, matches

BATCH_NORM = ("bn*", "*.bn*", "*/bn*", "*batch_norm*", "*BatchNorm*", *BATCH_STATISTICS)
"""What layers of batch normalisation are mostly called, and their statistics."""


class FedPer(FedAvg):
    """FedAvg over the shared layers; the personal ones stay at the clients.

    The clients have ``umbel.clientapp.personal_layers_mod`` with the same patterns, which keeps
    these arrays in the node's state and takes them out of the replies; a reply that carries one is
    rejected. On the server they stay what they were in the initial model, for nodes that come new.
    Arivazhagan et al. 2019, arXiv:1912.00818. With clients that train the head first and then the
    body (``umbel.clientapp.freeze``) it is FedRep: Collins et al. 2021, arXiv:2102.07078.

    Parameters
    ----------
    personal : sequence of str
        Patterns of the names of personal arrays, such as ``["head.*"]``.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        There is no pattern. In a round: every array of the model is personal.

    Examples
    --------
    >>> FedPer(personal=["head.*"]).personal
    ('head.*',)
    """

    def __init__(self, *, personal: Sequence[str], **options: Unpack[FedAvgOptions]) -> None:
        self.personal = checked_patterns(personal, "personal")
        if not self.personal:
            raise ConfigError("personal is empty", hint='write personal=["head.*"]')
        super().__init__(**options)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._shared(arrays)  # raises
        return super().configure_train(server_round, arrays, config, grid)

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        whole = self.current_arrays
        self.current_arrays = self._shared(whole)
        try:
            folds = super().train_aggregator(server_round)
        finally:
            self.current_arrays = whole
        return Mapped(folds, OnlyShared(self.personal))

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        shared, metrics = super().finish_train(server_round, value)
        if shared is None:
            return None, metrics
        return ArrayRecord({k: shared.get(k, a) for k, a in self.current_arrays.items()}), metrics

    def _shared(self, arrays: ArrayRecord) -> ArrayRecord:
        shared = ArrayRecord({k: a for k, a in arrays.items() if not matches(k, self.personal)})
        if arrays and not shared:
            raise ConfigError(
                f"every array of the model is personal by {list(self.personal)}",
                hint="leave something to be shared",
            )
        return shared


class FedBN(FedPer):
    """FedAvg over everything but batch normalisation, which every client keeps for itself.

    Li et al. 2021, arXiv:2102.07623. Scales, shifts and statistics are personal alike.

    Parameters
    ----------
    personal : sequence of str
        Patterns of these arrays' names; by default layers named "bn..." and "...batch_norm...",
        and all statistics. For a PyTorch model ``umbel.clientapp.batch_norm_names(model)`` knows.
    **options
        Those of :class:`FedAvg`.

    Examples
    --------
    >>> FedBN(fraction_train=0.5).summary()
    'FedBN(fraction_train=0.5, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self,
        *,
        personal: Sequence[str] = BATCH_NORM,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        super().__init__(personal=personal, **options)


@dataclass(frozen=True)
class OnlyShared:
    """Rejects replies with personal arrays, and returns others as they are.

    Parameters
    ----------
    personal : tuple of str
        Patterns of these arrays' names.
    """

    personal: tuple[str, ...]

    def __call__(self, content: RecordDict) -> RecordDict:
        """Return the content.

        Raises
        ------
        RejectedReply
            It holds personal arrays.
        """
        for record in content.array_records.values():
            names = [name for name in record if matches(name, self.personal)]
            if names:
                raise RejectedReply(
                    f"it carries personal arrays: {names[:5]}",
                    hint=f"give the client app mods=[personal_layers_mod({list(self.personal)})]",
                )
        return content
