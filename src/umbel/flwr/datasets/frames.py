"""A pandas frame as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umbel.partition import iid

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame; rows are counted by position, and keep their index."""

    data: pd.DataFrame

    def __len__(self) -> int:
        return len(self.data)

    def columns(self) -> list[str]:
        return list(self.data.columns)

    def column(self, name: str) -> npt.NDArray[Any]:
        return self.data[name].to_numpy()

    def class_names(self, name: str) -> list[str] | None:
        return None

    def take(self, rows: npt.NDArray[np.int64]) -> pd.DataFrame:
        return self.data.iloc[rows]

    def keep(self, names: Sequence[str]) -> pd.DataFrame:
        return self.data[list(names)]

    def shuffled(self, seed: int) -> pd.DataFrame:
        return self.take(iid(len(self), 1, seed=seed)[0])

    def joined(self, others: Sequence[pd.DataFrame]) -> pd.DataFrame:
        import pandas as pd

        return pd.concat([self.data, *others])
