import asyncio

import pytest

from umbel.base import content_hash
from umbel.deployment.node.objects import ObjectCache
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.store import ObjectStore

MODELS = [b"first", b"second", b"third"]
NAMES = [content_hash([model]) for model in MODELS]


@pytest.fixture
def cache(tmp_path):
    store = ObjectStore(tmp_path, durable=False)
    for name, model in zip(NAMES, MODELS, strict=True):
        store.write(name, 0, model)
        store.finish(name, len(model))
    return ObjectCache(tmp_path, 1000)


def here(tmp_path):
    return [name in {path.name for path in tmp_path.glob("objects/??/*")} for name in NAMES]


def test_the_last_two_bodies_of_a_run_are_kept(cache, tmp_path):
    for name in (NAMES[0], NAMES[1], NAMES[0], NAMES[2]):
        cache.turn_to("run", name)
    assert here(tmp_path) == [True, False, True]
    cache.forget_run("run")
    assert here(tmp_path) == [False, False, False]


def test_what_is_held_or_another_runs_stays(cache, tmp_path):
    cache.turn_to("other", NAMES[0])
    with cache.held(NAMES[1]):
        for name in (NAMES[0], NAMES[1], NAMES[2]):
            cache.turn_to("run", name)
        cache.forget_run("run")
        assert here(tmp_path) == [True, True, False]


def test_what_was_kept_is_not_fetched_again(cache):
    item = wire.Object(hash=NAMES[0], size_bytes=len(MODELS[0]))
    path = asyncio.run(cache.fetch(None, item, ()))
    assert path.read_bytes() == MODELS[0]
