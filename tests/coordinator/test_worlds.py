"""The coordinator in worlds that break: nothing is lost, nothing counts twice, all ends."""

from collections import Counter
from pathlib import Path

import pytest

from umbel.testing.federation import run_world
from umbel.testing.worlds import read_world

WORLDS = {path.stem: path for path in sorted(Path(__file__).parents[1].glob("worlds/*.toml"))}
# Worlds whose messages must fail in some seeds, and how.
FAILURES = {"partition": {"NodeLost", "ReplyTimeout"}, "short_deadlines": {"ReplyTimeout"}}


@pytest.mark.parametrize("path", WORLDS.values(), ids=WORLDS)
def test_a_world(path):
    run_world(read_world(path), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("path", WORLDS.values(), ids=WORLDS)
def test_a_world_with_all_its_seeds(path):
    world = read_world(path)
    outcomes = []
    for seed in range(world.seeds):
        try:
            outcomes.append(run_world(world, seed))
        except BaseException as error:
            error.add_note(f"world {path.stem}, seed {seed}")
            raise
    seen = frozenset().union(*(outcome.effects_seen for outcome in outcomes))
    assert world.reaches <= seen, f"never reached: {world.reaches - seen}"
    failures = sum((outcome.failures for outcome in outcomes), Counter())
    assert set(failures) == FAILURES.get(path.stem, set())


def test_a_seed_gives_the_same_world_again():
    world = read_world(WORLDS["crashes"])
    assert run_world(world, 3) == run_world(world, 3)
