"""What a node knows about itself and its run."""

from __future__ import annotations

from dataclasses import dataclass, field

from umbel.records.recorddict import RecordDict

UserConfigValue = bool | float | int | str
UserConfig = dict[str, UserConfigValue]
"""Settings by name; nested tables are flattened, with dots between the names."""


@dataclass(slots=True)
class Context:
    """The run, the node, and the state that the node keeps from round to round.

    Parameters
    ----------
    run_id : str
        The run.
    node_id : int
        The node.
    node_config : dict
        Settings of this node, such as ``"partition-id"``.
    state : RecordDict
        What handlers put here is there again in the next round.
    run_config : dict
        Settings of the run, flattened: ``context.run_config["optimizer.lr"]``.
    series_id : int
        Which series of runs this one belongs to.
    simulated : bool
        Whether the node is a virtual one, whose chance follows from the seed of the run.

    Examples
    --------
    >>> context = Context("run", 1, {"partition-id": 0, "num-partitions": 10})
    >>> context.node_config["partition-id"]
    0
    """

    run_id: str
    node_id: int
    node_config: UserConfig = field(default_factory=dict)
    state: RecordDict = field(default_factory=RecordDict)
    run_config: UserConfig = field(default_factory=dict)
    series_id: int = 0
    simulated: bool = False
