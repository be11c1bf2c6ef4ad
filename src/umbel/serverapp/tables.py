"""Metrics as a pandas frame: the only file of this floor that imports pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from umbel.base import MissingDependency

if TYPE_CHECKING:
    import pandas


def to_frame(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    """Return rows of (round, phase, metric, value) as a frame indexed by round."""
    try:
        import pandas
    except ImportError as error:
        raise MissingDependency("a frame needs pandas", hint='pip install "umbel[plot]"') from error
    by_round: dict[int, dict[str, Any]] = {}
    for row in rows:
        by_round.setdefault(row["round"], {})[f"{row['phase']}/{row['metric']}"] = row["value"]
    frame = pandas.DataFrame.from_dict(by_round, orient="index").sort_index()
    frame.index.name = "round"
    return frame
