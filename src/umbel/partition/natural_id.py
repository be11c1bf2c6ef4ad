"""Every client is one user, writer, hospital or device of the data set itself."""

from __future__ import annotations

import numpy.typing as npt

from umbel.partition.gathering import Indices, gather
from umbel.partition.labels import classify


def natural_id(ids: npt.ArrayLike) -> list[Indices]:
    """Return one partition for each distinct id, in rising order of id.

    Parameters
    ----------
    ids : array-like, shape (num_samples,)
        Whom each sample comes from: numbers or strings.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples, ascending; every sample is used once. Client ``i`` is
        ``np.unique(ids)[i]``, whatever the order of the samples.

    Raises
    ------
    PartitionError
        ``ids`` is no array of one dimension, is empty, or has missing values.

    Examples
    --------
    >>> [part.tolist() for part in natural_id(["bo", "al", "bo", "cy"])]
    [[1], [0, 2], [3]]
    """
    writers = classify(ids, name="ids")
    return gather(writers.codes, len(writers.values), None)
