"""XGBoost's models as JSON: read with care, and joined without XGBoost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from umbel.base import AggregationError, RejectedReply
from umbel.updates.trees import Malformed, check_tree, entry, floats, whole, wholes

_MORE_TREES = 'booster[before:].save_raw("json")'


@dataclass(frozen=True)
class BoosterKind:
    """What two models must have in common before their trees may be added up.

    Attributes
    ----------
    objective : str
        The loss, for example ``"binary:logistic"``.
    features, classes, targets, trees_at_once : int
        XGBoost's ``num_feature``, ``num_class``, ``num_target`` and ``num_parallel_tree``.
    columns : str
        Names and categories of the features, as JSON; empty lists if there are none.
    """

    objective: str
    features: int
    classes: int
    targets: int
    trees_at_once: int
    columns: str

    def difference(self, other: BoosterKind) -> str:
        """Return how another model differs, in words; nothing if it does not."""
        return ", ".join(
            f"{name} {getattr(other, name)!r} and not {getattr(self, name)!r}"
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(other, name)
        )


@dataclass
class Booster:
    """A model of XGBoost: trees, and what says how to add them up.

    Attributes
    ----------
    document : dict
        The JSON document, as XGBoost wrote it.
    kind : BoosterKind
        What it has in common with the models that it can be joined with.
    """

    document: dict[str, Any]
    kind: BoosterKind

    @property
    def forest(self) -> dict[str, Any]:
        """The part of the document that holds the trees."""
        forest: dict[str, Any] = self.document["learner"]["gradient_booster"]["model"]
        return forest

    def to_json(self) -> bytes:
        """Return the bytes that ``xgboost.Booster().load_model(bytearray(...))`` takes."""
        return json.dumps(self.document, separators=(",", ":")).encode()


def read_booster(raw: bytes) -> Booster:
    """Return the model that ``xgboost.Booster.save_raw("json")`` wrote.

    Whatever XGBoost would follow blindly is looked at: the shape of the document, the lengths of
    arrays, the ranges of indices, that each tree is one, and that its leaves are numbers.

    Parameters
    ----------
    raw : bytes
        The model, of a booster ``gbtree``, by XGBoost 2.1 or later.

    Raises
    ------
    RejectedReply
        It is no such model; the text says where.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        binary = raw[:2] in (b"{L", b"{l", b"{i", b"{I", b"{U")
        raise RejectedReply(
            f"its {len(raw)} bytes are no JSON ({type(error).__name__})",
            hint='XGBoost writes UBJSON by default: ask for save_raw("json")'
            if binary
            else f"reply with the bytes of {_MORE_TREES}",
        ) from None
    try:
        return Booster(document, _checked(document))
    except Malformed as error:
        raise RejectedReply(
            f"its model is not as XGBoost writes one: {error}",
            hint=f'reply with the bytes of {_MORE_TREES}, of the booster "gbtree"',
        ) from None


def join_boosters(boosters: Sequence[Booster]) -> Booster:
    """Return one model that predicts the sum of all trees of some, on the scale of the margin.

    Everything but the trees is the first one's, its base score too. Trees stay in order; each
    keeps the class that it is for, and the trees of one iteration of boosting stay together. The
    first model is changed.

    Parameters
    ----------
    boosters : sequence of Booster
        At least one.

    Raises
    ------
    AggregationError
        They are not of one kind.
    """
    first, *others = boosters
    forest = first.forest
    for other in others:
        if difference := first.kind.difference(other.kind):
            raise AggregationError(
                f"two clients' models cannot be joined: one has {difference}",
                hint="give all clients the same columns and the same parameters",
            )
        offset = len(forest["trees"])
        forest["trees"] += other.forest["trees"]
        forest["tree_info"] += other.forest["tree_info"]
        forest["iteration_indptr"] += [offset + i for i in other.forest["iteration_indptr"][1:]]
    for number, tree in enumerate(forest["trees"]):
        tree["id"] = number
    forest["gbtree_model_param"]["num_trees"] = str(len(forest["trees"]))
    return first


def _checked(document: Any) -> BoosterKind:
    learner = entry(document, "learner", dict)
    booster = entry(learner, "gradient_booster", dict)
    if booster.get("name") != "gbtree":
        raise Malformed(f"its booster is {booster.get('name')!r}, and trees are needed")
    forest = entry(booster, "model", dict)
    settings = entry(learner, "learner_model_param", dict)
    sizes = entry(forest, "gbtree_model_param", dict)
    columns = [learner.get("feature_names"), learner.get("feature_types"), forest.get("cats")]
    kind = BoosterKind(
        objective=entry(entry(learner, "objective", dict), "name", str),
        features=whole(settings, "num_feature"),
        classes=whole(settings, "num_class"),
        targets=whole(settings, "num_target"),
        trees_at_once=whole(sizes, "num_parallel_tree"),
        columns=json.dumps(columns, sort_keys=True),
    )
    _check_base_score(entry(settings, "base_score", str))
    trees = entry(forest, "trees", list)
    if whole(sizes, "num_trees") != len(trees):
        raise Malformed(f"num_trees is not {len(trees)}, the number of its trees")
    wholes(forest, "tree_info", 0, max(kind.classes, kind.targets, 1) - 1, len(trees))
    ends = wholes(forest, "iteration_indptr", 0, len(trees))
    if not ends.size or ends[0] != 0 or ends[-1] != len(trees) or (ends[1:] < ends[:-1]).any():
        raise Malformed("iteration_indptr does not cut its trees into iterations")
    for number, tree in enumerate(trees):
        try:
            check_tree(tree, kind.features)
        except Malformed as error:
            raise Malformed(f"tree {number}: {error}") from None
    return kind


def _check_base_score(text: str) -> None:
    """XGBoost 3 writes one number a class in brackets, XGBoost 2 a number."""
    parts: Iterable[str] = text.removeprefix("[").removesuffix("]").split(",")
    try:
        floats({"base_score": [float(part) for part in parts]}, "base_score")
    except ValueError:
        raise Malformed(f"base_score is {text[:40]!r}, not a number") from None
