"""Umbel's transforms keep the contract, and each check finds a transform that does not."""

import numpy as np
import pytest

from umbel.testing import transform_checks
from umbel.updates import (
    Transform,
    chain,
    clip_by_global_norm,
    momentum,
    scale,
    scale_by_adam,
    scale_by_schedule,
)

TRANSFORMS = {
    "identity": chain(),
    "scale": scale(0.3),
    "schedule": scale_by_schedule(lambda step: 1 / step),
    "momentum": momentum(0.9),
    "adam": scale_by_adam(0.9, 0.99, 1e-3),
    "clip": clip_by_global_norm(1.0),
    "all": chain(clip_by_global_norm(1.0), momentum(0.5), scale_by_adam(0.9, 0.99, 1e-3)),
}
CHECKS = dict(transform_checks())


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_umbels_transforms(check, transform):
    check(transform)
    check(lambda: transform)


def stateless(function):
    return Transform(lambda arrays: {}, lambda update, state: (function(update), state))


def in_place(update, state):
    for value in update.values():
        if value.flags.writeable:
            value *= 0.5
    return update, state


def counter():
    calls = []

    def apply(update, state):
        calls.append(1)
        return {key: value * len(calls) for key, value in update.items()}, state

    return Transform(lambda arrays: {}, apply)


def normalised(update):
    return {key: np.asarray(v / np.sqrt(np.sum(v * v)), v.dtype) for key, v in update.items()}


def written(update):
    for value in update.values():
        value += 0
    return update


def forgotten_state(update, state):
    step = state["step"]
    return update, {"step": step, "last": dict(update)}


BROKEN = {
    "in place": (Transform(lambda arrays: {}, in_place), "inputs_stay"),
    "counter": (counter(), "nothing_is_hidden"),
    "object in state": (
        Transform(lambda arrays: {"seen": {1, 2}}, lambda u, s: (u, s)),
        "state_travels",
    ),
    "grows": (Transform(lambda arrays: {"step": 0}, forgotten_state), "state_keeps_its_layout"),
    "named by model": (
        Transform(lambda arrays: dict.fromkeys(arrays, 0), lambda u, s: (u, s)),
        "state_keeps_its_layout",
    ),
    "scalars": (stateless(lambda u: {k: v * 2 for k, v in u.items()}), "arrays_keep_their_make"),
    "widens": (
        stateless(lambda u: {k: v.astype(np.float64) for k, v in u.items()}),
        "arrays_keep_their_make",
    ),
    "drops": (
        stateless(lambda u: {k: v for k, v in u.items() if v.size}),
        "arrays_keep_their_make",
    ),
    "scalar in state": (
        Transform(lambda arrays: {"n": np.float32(1)}, lambda u, s: (u, s)),
        "arrays_keep_their_make",
    ),
    "writes": (stateless(written), "read_only_updates"),
    "divides": (stateless(normalised), "zero_update"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_found(name):
    transform, check = BROKEN[name]
    with pytest.raises(AssertionError):
        CHECKS[check](transform)


def test_every_check_has_a_transform_that_fails_it():
    assert {check for _, check in BROKEN.values()} == set(CHECKS)
