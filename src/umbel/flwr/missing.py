"""What Flower has and Umbel has not, and what to do about it: the one table of it."""

from __future__ import annotations

from umbel.base import UsageError


class NotInUmbel(UsageError, ImportError):
    """An app asks for something of Flower's that Umbel does not have."""

    code = "U106"


LATER = {
    "FedAvgAndroid": "subclass FedAvg and turn the clients' bytes into arrays in aggregate_fit",
    "FedXgbNnAvg": "Flower gave it up; FedXgbBagging and FedXgbCyclic are here",
    "tested_datasets": "any data set will do: nothing is said of those that are not on a list",
}
"""Names that are still to come, or have no use here, and what to do instead."""

_UNKNOWN = "write it without this name; docs/coming-from-flower.md lists what is there"


def not_in_umbel(name: str, where: str) -> NotInUmbel:
    """Return the error for a name that an app asks for in a module of Flower's."""
    if name in LATER:
        return NotInUmbel(f"Umbel has no {where}.{name} yet", hint=LATER[name])
    return NotInUmbel(f"Umbel has no {where}.{name}", hint=_UNKNOWN)
