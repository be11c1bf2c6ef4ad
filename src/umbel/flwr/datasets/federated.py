"""``FederatedDataset``: a data set, its splits, and a partitioner for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from umbel.base import PartitionError, Seeds, UsageError
from umbel.flwr.datasets.by_size import IidPartitioner
from umbel.flwr.datasets.huggingface import load
from umbel.flwr.datasets.partitioners import Partitioner
from umbel.flwr.datasets.preprocessors import Merger, Preprocessor
from umbel.flwr.datasets.tables import split_named, splits_of, table_of, with_splits


class FederatedDataset:
    """A data set whose splits are cut into clients when they are first asked for.

    Parameters
    ----------
    dataset : str or data set
        What ``datasets.load_dataset`` takes: a name on the hub, a folder, ``"csv"`` with
        ``data_files``. Or the data itself: a ``Dataset``, a ``DatasetDict``, a data frame, a
        dictionary of arrays, or a dictionary of splits that are any of these. Data without splits
        is the split ``"train"``.
    subset : str, optional
        The configuration of a data set of the hub.
    preprocessor : callable or mapping, optional
        Makes other splits of those that there are, before they are cut: a `Divider`, a `Merger` or
        what a `Merger` takes, or a function of your own.
    partitioners : mapping of str to Partitioner or int
        How to cut each split; a number stands for an `IidPartitioner`.
    shuffle : bool
        Shuffle each split beforehand.
    seed : int or None
        The order that ``shuffle`` draws. With ``None`` it is another one in every process, so that
        clients' partitions overlap: give a number where clients load their own.
    **load_dataset_kwargs
        Other arguments of ``datasets.load_dataset``.

    Raises
    ------
    UsageError
        Options of ``load_dataset`` are given for data that needs no loading.
    PartitionError
        A partitioner is none, or is given for two splits.

    Examples
    --------
    >>> import numpy as np
    >>> data = {"x": np.arange(6), "y": np.array([0, 1, 0, 1, 0, 1])}
    >>> fds = FederatedDataset(dataset=data, partitioners={"train": 3}, shuffle=False)
    >>> fds.load_partition(1)
    {'x': array([2, 3]), 'y': array([0, 1])}
    >>> len(fds.load_split("train")["x"])
    6
    """

    def __init__(
        self,
        *,
        dataset: Any,
        subset: str | None = None,
        preprocessor: Preprocessor | Mapping[str, Sequence[str]] | None = None,
        partitioners: Mapping[str, Partitioner | int],
        shuffle: bool = True,
        seed: int | None = 42,
        **load_dataset_kwargs: Any,
    ) -> None:
        if not isinstance(dataset, str) and (subset is not None or load_dataset_kwargs):
            unused = [*(["subset"] if subset is not None else []), *load_dataset_kwargs]
            raise UsageError(
                f"{', '.join(unused)}: a {type(dataset).__name__} needs no loading",
                hint="leave them out, or name a data set of the hub",
            )
        self._dataset = dataset
        self._subset = subset
        self._options = load_dataset_kwargs
        merge = Merger(preprocessor) if isinstance(preprocessor, Mapping) else preprocessor
        self._preprocessor: Preprocessor | None = merge
        self._partitioners = _made(partitioners)
        self._seed = Seeds(seed).seed if shuffle else None

    @cached_property
    def _splits(self) -> dict[str, Any]:
        """The splits, loaded, shuffled, preprocessed, and assigned to their partitioners."""
        data = self._dataset
        if isinstance(data, str):
            data = load(data, self._subset, self._options)
        splits = splits_of(data)
        if self._seed is not None:
            splits = {name: table_of(d).shuffled(self._seed) for name, d in splits.items()}
        if self._preprocessor is not None:
            splits = splits_of(self._preprocessor(with_splits(splits)))
        for name, partitioner in self._partitioners.items():
            if name in splits and not partitioner.is_dataset_assigned():
                partitioner.dataset = splits[name]
        return splits

    @property
    def partitioners(self) -> dict[str, Partitioner]:
        """The partitioner of each split, with its data.

        Raises
        ------
        PartitionError
            The data set has no split of such a name.
        """
        for name in self._partitioners:
            split_named(self._splits, name)
        return self._partitioners

    def load_partition(self, partition_id: int, split: str | None = None) -> Any:
        """Return the data of one client, of the kind of the data set.

        Parameters
        ----------
        partition_id : int
            Which client, from 0.
        split : str, optional
            Of which split; may be left out where there is one partitioner.

        Raises
        ------
        PartitionError
            There is no such client, split or partitioner, or the split cannot be cut as asked for.
        """
        known = list(self._partitioners)
        if split is None:
            if len(known) != 1:
                raise PartitionError(
                    f"partitions of which split? There are partitioners for {known}",
                    hint="load_partition(partition_id, split)",
                )
            split = known[0]
        split_named(self._splits, split)
        if split not in known:
            raise PartitionError(
                f"the split {split!r} has no partitioner",
                hint=f"partitioners has {known}; load_split({split!r}) returns all of it",
            )
        return self._partitioners[split].load_partition(partition_id)

    def load_split(self, split: str) -> Any:
        """Return a whole split, for evaluation on the server.

        Raises
        ------
        PartitionError
            There is no such split.
        """
        return split_named(self._splits, split)


def _made(partitioners: Mapping[str, Any]) -> dict[str, Partitioner]:
    made: dict[str, Partitioner] = {}
    for split, given in partitioners.items():
        if not isinstance(given, Partitioner | int) or isinstance(given, bool):
            raise PartitionError(
                f"the partitioner of {split!r} is a {type(given).__name__}",
                hint="give a Partitioner, or a number of clients",
            )
        partitioner = given if isinstance(given, Partitioner) else IidPartitioner(given)
        if any(partitioner is other for other in made.values()):
            raise PartitionError(
                "one partitioner is given for two splits", hint="make one for each split"
            )
        made[split] = partitioner
    return made
