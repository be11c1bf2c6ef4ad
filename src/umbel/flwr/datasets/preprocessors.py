"""New splits from those that a data set comes with, before it is cut into clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from umbel.base import PartitionError
from umbel.flwr.datasets.division import divide_dataset
from umbel.flwr.datasets.tables import joined, split_named, splits_of, with_splits

Preprocessor = Callable[[Any], Any]
"""Takes a ``DatasetDict``, or a dictionary of frames or of arrays, and returns another."""


class Merger:
    """Makes splits out of several each; a split that is not named is left out.

    Parameters
    ----------
    merge_config : mapping of str to sequence of str
        The name of each new split, and of the splits whose rows it has, in order.

    Examples
    --------
    >>> merge = Merger({"all": ("test", "train")})
    >>> merge({"train": {"x": [1, 2]}, "test": {"x": [3]}})
    {'all': {'x': array([3, 1, 2])}}
    """

    def __init__(self, merge_config: Mapping[str, Sequence[str]]) -> None:
        self._config = dict(merge_config)

    def __call__(self, dataset: Any) -> Any:
        """Return the new splits."""
        return self.resplit(dataset)

    def resplit(self, dataset: Any) -> Any:
        """Return the new splits.

        Raises
        ------
        PartitionError
            A split is unknown, or a new one is made of none.
        """
        splits = splits_of(dataset)
        merged = {}
        for name, sources in self._config.items():
            if isinstance(sources, str) or not sources:
                raise PartitionError(
                    f"the split {name!r} is to be made of {sources!r}",
                    hint=f"name the splits in a tuple: {{{name!r}: ('train', 'test')}}",
                )
            merged[name] = joined([split_named(splits, source) for source in sources])
        return with_splits(merged)


class Divider:
    """Makes several splits out of one each; the other splits stay.

    Parameters
    ----------
    divide_config : mapping
        The new splits and their share of the rows, as `divide_dataset` takes it; or such a mapping
        for each split that is to be divided.
    divide_split : str, optional
        Which split to divide, where ``divide_config`` does not name it. May be left out for a data
        set with one split.
    drop_remaining_splits : bool
        Leave out the splits that are not divided.

    Examples
    --------
    >>> divide = Divider({"train": 0.75, "val": 0.25}, divide_split="train")
    >>> divide({"train": {"x": [1, 2, 3, 4]}, "test": {"x": [5]}})
    {'test': {'x': [5]}, 'train': {'x': array([1, 2, 3])}, 'val': {'x': array([4])}}
    """

    def __init__(
        self,
        divide_config: Mapping[str, float] | Mapping[str, Mapping[str, float]],
        divide_split: str | None = None,
        drop_remaining_splits: bool = False,
    ) -> None:
        self._config = divide_config
        self._split = divide_split
        self._drop = drop_remaining_splits

    def __call__(self, dataset: Any) -> Any:
        """Return the new splits."""
        return self.resplit(dataset)

    def resplit(self, dataset: Any) -> Any:
        """Return the new splits, after those that stay.

        Raises
        ------
        PartitionError
            It is not clear which split to divide, a split is unknown, two have one name, or more
            is asked for than there is.
        """
        splits = splits_of(dataset)
        plan = self._plan(splits)
        rest = {} if self._drop else {name: splits[name] for name in splits if name not in plan}
        made: dict[str, Any] = {}
        for source, division in plan.items():
            for name, piece in divide_dataset(splits[source], division).items():
                if name in made or name in rest:
                    raise PartitionError(
                        f"there would be two splits named {name!r}", hint="give it another name"
                    )
                made[name] = piece
        return with_splits({**rest, **made})

    def _plan(self, splits: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
        """Return how each split that is to be divided is divided."""
        if any(isinstance(value, Mapping) for value in self._config.values()):
            plan = dict(cast("Mapping[str, Mapping[str, float]]", self._config))
        else:
            if self._split is None and len(splits) > 1:
                raise PartitionError(
                    f"divide_config does not say which of {list(splits)} to divide",
                    hint="give divide_split",
                )
            source = next(iter(splits)) if self._split is None else self._split
            plan = {source: cast("Mapping[str, float]", self._config)}
        for source in plan:
            split_named(splits, source)
        return plan
