"""Models that nobody can change, so that many can hold them."""

from __future__ import annotations

from umbel.records import Array, ArrayRecord


def frozen_copy(arrays: ArrayRecord) -> ArrayRecord:
    """Return the same values in arrays that nobody can change; what is so already is shared.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.zeros(2)
    >>> copy = frozen_copy(ArrayRecord([weights]))
    >>> weights += 1
    >>> copy["0"].view().tolist(), copy["0"].frozen
    ([0.0, 0.0], True)
    >>> frozen_copy(copy)["0"] is copy["0"]
    True
    """
    return ArrayRecord({key: _frozen(array) for key, array in arrays.items()})


def _frozen(array: Array) -> Array:
    if array.frozen:
        return array
    copy = array.numpy()
    copy.flags.writeable = False
    return Array.wrap(copy)
