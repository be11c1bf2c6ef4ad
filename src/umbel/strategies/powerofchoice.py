"""Power-of-choice: those clients take part whose loss is greatest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Unpack

from umbel.base import ConfigError, NotEnoughReplies, is_number, is_whole_number
from umbel.records import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from umbel.serverapp import Grid, WeightedSampler
from umbel.strategies.fedavg import FedAvg, FedAvgOptions


class PowerOfChoice(FedAvg):
    """FedAvg whose cohort are the candidates with the greatest loss.

    ``num_candidates`` nodes are drawn in proportion to ``weights`` and asked to evaluate the global
    model; the ``num_selected`` of them with the greatest loss train. Cho et al. 2020,
    arXiv:2010.01243, section 3. Candidates that do not answer are not selected; their failures
    stand in the result.

    Parameters
    ----------
    num_candidates : int
        ``d``, at least ``num_selected``.
    num_selected : int
        ``m``.
    weights : mapping of int to float, optional
        The weight of each node, by the paper its share of the data; by default all are equal.
    loss_key : str, default="loss"
        The metric of the evaluation reply that is compared.
    candidate_timeout_s : float, default=3600
        How many seconds candidates have to answer.
    **options
        Those of :class:`FedAvg`; a training sampler is replaced by the rule above.

    Raises
    ------
    ConfigError
        A parameter is out of its range. In a round: candidates reply without that metric.
    NotEnoughReplies
        In a round: no candidate replied.

    Examples
    --------
    >>> strategy = PowerOfChoice(num_candidates=20, num_selected=5)
    """

    looks_at_clients = True

    def __init__(
        self,
        *,
        num_candidates: int,
        num_selected: int,
        weights: Mapping[int, float] | None = None,
        loss_key: str = "loss",
        candidate_timeout_s: float = 3600.0,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        numbers = all(map(is_whole_number, (num_selected, num_candidates)))
        if not numbers or not 1 <= num_selected <= num_candidates:
            raise ConfigError(
                f"{num_selected!r} nodes cannot be selected out of {num_candidates!r} candidates",
                hint="choose 1 <= num_selected <= num_candidates",
            )
        if not is_number(candidate_timeout_s) or candidate_timeout_s <= 0:
            raise ConfigError(f"candidate_timeout_s is positive, got {candidate_timeout_s!r}")
        weights = {} if weights is None else weights
        options["train_sampler"] = WeightedSampler(num_candidates, weights)
        super().__init__(**options)
        self.num_selected = num_selected
        self.loss_key = loss_key
        self.candidate_timeout_s = candidate_timeout_s

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        questions = [
            Message(
                RecordDict(message.content),
                message.metadata.dst_node_id,
                MessageType.EVALUATE,
                # Of its own, so that the evaluation of this round draws other random numbers.
                group_id=f"{server_round}.{grid.run.attempt}-candidates",
            )
            for message in messages
        ]
        losses: dict[int, float] = {}
        replied = 0
        for reply in grid.send_and_receive(questions, timeout=self.candidate_timeout_s):
            if reply.has_content():
                replied += 1
                records = list(reply.content.metric_records.values())
                loss = records[0].get(self.loss_key) if records else None
                if isinstance(loss, int | float):
                    losses[reply.metadata.src_node_id] = float(loss)
        if messages and not replied:
            raise NotEnoughReplies(
                f"none of {len(messages)} candidates told its loss",
                hint="the failures of the result say why",
                round=server_round,
            )
        if messages and not losses:
            raise ConfigError(
                f"no candidate replied with a metric {self.loss_key!r}",
                hint="reply to evaluate messages with it, or set loss_key",
                round=server_round,
            )
        worst = sorted(losses, key=lambda node: (-losses[node], node))[: self.num_selected]
        return [message for message in messages if message.metadata.dst_node_id in worst]
