"""q-FedAvg: clients with a greater loss count for more."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_number
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import FairRule


class QFedAvg(KeptReplies):
    """``x <- x - sum_k d_k / sum_k h_k``, so that losses become more equal as ``q`` grows.

    With ``L = 1 / client_learning_rate`` and the client's training loss ``F_k``:
    ``d_k = L F_k^q (x - x_k)`` and ``h_k = q F_k^(q-1) ||L (x - x_k)||^2 + L F_k^q``. ``q=0`` is
    the mean without weights. Li et al. 2020, arXiv:1905.10497, algorithm 2.

    Parameters
    ----------
    client_learning_rate : float
        The clients' learning rate, positive.
    q : float, default=0.1
        How much fairness counts, not negative.
    train_loss_key : str, default="train_loss"
        The metric that is the client's training loss; a reply without it is rejected.
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = QFedAvg(client_learning_rate=0.1, q=1.0)
    """

    def __init__(
        self,
        *,
        client_learning_rate: float,
        q: float = 0.1,
        train_loss_key: str = "train_loss",
        **options: Unpack[KeptRepliesOptions],
    ) -> None:
        if not (
            is_number(client_learning_rate) and client_learning_rate > 0 and is_number(q) and q >= 0
        ):
            raise ConfigError(
                f"QFedAvg(client_learning_rate={client_learning_rate!r}, q={q!r}) cannot step",
                hint="the learning rate is positive, q is not negative",
            )
        super().__init__(FairRule(client_learning_rate, q, train_loss_key), **options)
