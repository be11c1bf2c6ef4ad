"""XGBoost's JSON, read and joined without XGBoost: what XGBoost itself makes of it."""

import copy
import json

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import AggregationError, RejectedReply
from umbel.records import ArrayRecord, RecordDict
from umbel.testing import aggregator_checks
from umbel.updates import CollectBoosters, join_boosters, read_booster

DRAWN = np.random.default_rng(3)
X = DRAWN.normal(size=(90, 4)).astype(np.float32)
BINARY, CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int), np.arange(90) % 3
TASKS = {
    "binary": ({"objective": "binary:logistic", "base_score": 0.5}, BINARY),
    "forest": ({"objective": "binary:logistic", "num_parallel_tree": 3, "base_score": 0.5}, BINARY),
    "classes": ({"objective": "multi:softprob", "num_class": 3}, CLASSES),
    "classes of forests": (
        {"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 2},
        CLASSES,
    ),
    "vectors": ({"objective": "reg:squarederror", "base_score": 0.0}, X[:, :2]),
    "vector leaves": (
        {"multi_strategy": "multi_output_tree", "tree_method": "hist", "base_score": 0.0},
        X[:, :2],
    ),
}


def trained(task, rows, rounds=2, **more):
    parameters, labels = TASKS[task]
    parameters = {"max_depth": 3, "nthread": 1, **parameters, **more}
    return xgboost.train(parameters, xgboost.DMatrix(X[rows], labels[rows], nthread=1), rounds)


def raw(booster):
    return bytes(booster.save_raw("json"))


def loaded(raw):
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(raw))
    return booster


def margin(booster, **options):
    return booster.predict(xgboost.DMatrix(X, nthread=1), output_margin=True, **options)


PARTS = [slice(0, 30), slice(30, 60), slice(60, 90)]


@pytest.mark.parametrize("task", TASKS)
def test_what_is_joined_predicts_the_sum_of_the_trees(task):
    models = [trained(task, rows, rounds) for rows, rounds in zip(PARTS, (1, 2, 3), strict=True)]
    joined = loaded(join_boosters([read_booster(raw(m)) for m in models]).to_json())
    # The base scores of all tasks have the margin 0.
    assert np.allclose(margin(joined), sum(margin(m) for m in models), atol=1e-5)
    assert joined.num_boosted_rounds() == 6
    # Iterations stay together: XGBoost itself can cut the models out again.
    assert np.allclose(margin(joined, iteration_range=(1, 3)), margin(models[1]), atol=1e-6)
    assert raw(loaded(raw(joined))) == raw(joined)


def test_one_model_stays_as_it_is():
    model = raw(trained("classes", PARTS[0]))
    assert json.loads(join_boosters([read_booster(model)]).to_json()) == json.loads(model)


def test_pruned_trees_and_categories_are_taken():
    pruned = trained("binary", slice(0, 90), 3, gamma=2.0, max_depth=6, tree_method="exact")
    trees = read_booster(raw(pruned)).forest["trees"]
    assert any(int(tree["tree_param"]["num_deleted"]) for tree in trees)
    parameters = {"objective": "binary:logistic", "nthread": 1, "max_cat_to_onehot": 1}
    colours = np.column_stack([np.arange(90) % 7, X[:, 0]])
    labels = np.isin(np.arange(90) % 7, [1, 2, 5]).astype(int)
    data = xgboost.DMatrix(colours, labels, feature_types=["c", "q"], enable_categorical=True)
    model = xgboost.train(parameters, data, 2)
    booster = read_booster(raw(model))
    assert booster.forest["trees"][0]["categories"]
    joined = loaded(join_boosters([booster, read_booster(raw(model))]).to_json())
    once, twice = (m.predict(data, output_margin=True) for m in (model, joined))
    bias = float(np.log(labels.mean() / (1 - labels.mean())))
    assert np.allclose(twice - bias, 2 * (once - bias), atol=1e-5)


def test_models_of_different_kinds_are_not_joined():
    one, other = trained("binary", PARTS[0]), trained("classes", PARTS[0])
    with pytest.raises(AggregationError, match=r"objective 'multi:softprob' and not 'binary"):
        join_boosters([read_booster(raw(m)) for m in (one, other)])


def wrecks():
    def tree(document):
        return document["learner"]["gradient_booster"]["model"]["trees"][0]

    def put(where, key, value):
        def wreck(document):
            where(document)[key] = value

        return wreck

    def forest(document):
        return document["learner"]["gradient_booster"]["model"]

    def settings(document):
        return document["learner"]["learner_model_param"]

    yield put(tree, "left_children", [0]), "left_children has 1 entries"
    yield put(tree, "left_children", [99, *[-1] * 6]), "left_children"
    yield put(tree, "left_children", "abc"), "left_children is missing or no list"
    yield lambda d: tree(d)["left_children"].__setitem__(0, 0), "its nodes are no tree"
    yield lambda d: tree(d)["right_children"].__setitem__(0, 2**64 - 1), "right_children is no list"
    yield lambda d: tree(d)["split_indices"].__setitem__(0, 4), "a column that is none of 4"
    yield lambda d: tree(d)["split_conditions"].__setitem__(-1, float("nan")), "NaN or infinity"
    yield lambda d: tree(d)["base_weights"].__setitem__(0, [1, 2]), "base_weights is no list"
    yield put(tree, "tree_param", None), "tree_param is missing or no dict"
    yield lambda d: tree(d)["tree_param"].update(num_nodes="-3"), "num_nodes is '-3'"
    yield lambda d: tree(d)["tree_param"].update(num_nodes="0"), "it has no node"
    yield put(tree, "categories_nodes", [1]), "categories_segments has 0 entries, not 1"
    yield (
        lambda d: tree(d).update(
            categories_nodes=[1], categories_segments=[0], categories_sizes=[3], categories=[1, 2]
        ),
        "categories_sizes leaves the range",
    )
    yield put(forest, "trees", []), "num_trees is not 0"
    yield put(forest, "tree_info", [0, 1]), "tree_info leaves the range"
    yield put(forest, "iteration_indptr", [0, 5]), "iteration_indptr"
    yield put(forest, "iteration_indptr", [1, 2]), "iteration_indptr does not cut"
    yield put(settings, "base_score", "many"), "base_score is 'many'"
    yield put(settings, "base_score", "[nan]"), "base_score holds NaN"
    yield put(lambda d: d["learner"]["gradient_booster"], "name", "dart"), "its booster is 'dart'"
    yield put(lambda d: d, "learner", 3), "learner is missing or no dict"


MODEL = json.loads(raw(trained("binary", PARTS[0])))


@pytest.mark.parametrize(("wreck", "text"), list(wrecks()))
def test_what_is_wrong_in_a_document_is_named(wreck, text):
    document = copy.deepcopy(MODEL)
    wreck(document)
    with pytest.raises(RejectedReply, match="not as XGBoost writes") as caught:
        read_booster(json.dumps(document).encode())
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "its 0 bytes are no JSON"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"a": ' + b"9" * 5000 + b"}", "ValueError"),
        (b"\xff\xfe\x00", "UnicodeDecodeError"),
        (b"[]", "learner is missing"),
        (bytes(trained("binary", PARTS[0]).save_raw()), "XGBoost writes UBJSON by default"),
        (bytes(trained("binary", PARTS[0], booster="dart").save_raw("json")), "booster is 'dart'"),
    ],
    ids=["empty", "deep", "huge", "binary", "list", "ubj", "dart"],
)
def test_bytes_that_are_no_model_are_rejected(raw, text):
    with pytest.raises(RejectedReply) as caught:
        read_booster(raw)
    assert text in str(caught.value)


ODD = st.sampled_from(
    [None, -1, 2**31, 2**70, 0.5, "7", "", [], {}, [None], [[1]], float("nan"), True]
)


def places(node, path=()):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@given(st.sampled_from(list(places(MODEL))), ODD)
def test_whatever_stands_anywhere_is_read_or_rejected(path, value):
    document = copy.deepcopy(MODEL)
    spot = document
    for key in path[:-1]:
        spot = spot[key]
    spot[path[-1]] = value
    try:
        booster = read_booster(json.dumps(document).encode())
    except RejectedReply:
        return
    whole = read_booster(json.dumps(MODEL).encode())
    if not whole.kind.difference(booster.kind):
        assert len(join_boosters([whole, booster]).forest["trees"]) >= 2


def reply(arrays, num_examples):
    """A reply whose trees depend on the arrays that it is asked for."""
    first = next(a for a in arrays.values() if a.size)
    seed = 1 + int(np.abs(np.nan_to_num(first.astype(np.float64))).sum() * 8) % 5
    model = np.frombuffer(REPLIES[seed], np.uint8)
    return RecordDict({"arrays": ArrayRecord([model])})


REPLIES = {seed: raw(trained("binary", slice(seed, 30 + seed), 1)) for seed in range(1, 6)}


# Zeroed bytes are no model.
CHECKS = {k: check for k, check in aggregator_checks(reply=reply) if k != "zero_update"}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_aggregator_keeps_the_contract(check):
    check(CollectBoosters())


@pytest.mark.parametrize(
    "arrays", [[], [np.zeros(3)], [np.zeros((1, 2), np.uint8)], [np.zeros(1, np.uint8)] * 2]
)
def test_arrays_that_are_no_bytes_are_rejected(arrays):
    fold = CollectBoosters()
    with pytest.raises(RejectedReply, match="one array of bytes"):
        fold.add(fold.zero(), RecordDict({"arrays": ArrayRecord(arrays)}))
