"""Time, chance and the environment are touched in ``umbel.base`` and nowhere else.

Everything else is given a ``Clock`` or a stream of ``Seeds``, so that runs can be repeated and
tests never wait.
"""

import ast

import pytest

FORBIDDEN = (
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "numpy.random",
    "os.environ",
    "os.environb",
    "os.getenv",
    "os.putenv",
    "os.unsetenv",
    "os.urandom",
    "random",
    "secrets",
    "time",
    "uuid",
)
TYPES = {"numpy.random.Generator"}  # to say what a function is given, not to make one


def covers(forbidden: str, name: str) -> bool:
    return name == forbidden or name.startswith(f"{forbidden}.")


def touches(source):
    """Uses of the clock, of chance or of the environment, each once with its longest name."""
    called = {id(node.func) for node in ast.walk(source.tree) if isinstance(node, ast.Call)}
    inner = {id(n.value) for n in ast.walk(source.tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Attribute | ast.Name) or id(node) in inner:
            continue
        name = source.dotted(node)
        if name is None or (name in TYPES and id(node) not in called):
            continue
        if any(covers(forbidden, name) for forbidden in FORBIDDEN):
            yield f"{source.path}:{node.lineno}: {name} is touched only in umbel.base"


def test_only_base_touches_the_clock_chance_and_the_environment(sources):
    broken = [line for s in sources if s.folder != "base" for line in touches(s)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import time\ntime.monotonic()", "time.monotonic"),
        ("from time import sleep as wait\nwait(1)", "time.sleep"),
        ("import numpy as np\nnp.random.default_rng(3)", "numpy.random.default_rng"),
        ("import numpy as np\nnp.random.Generator(b)", "numpy.random.Generator"),
        ("from numpy.random import default_rng\ndefault_rng()", "numpy.random.default_rng"),
        ("import os\nos.environ['A'] = 'b'", "os.environ"),
        ("import os\ndef f():\n    os.environ.get('A')", "os.environ.get"),
        ("from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
        ("import uuid\nuuid.uuid4().hex", "uuid.uuid4"),
    ],
)
def test_a_touch_is_found_through_any_import(source, text, name):
    (found,) = touches(source("src/umbel/updates/a.py", text))
    assert f": {name} is touched" in found


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np\ndef f(rng: np.random.Generator) -> None: ...",
        "def f(clock, time):\n    return clock.now() - time.start",
        "import os\nos.cpu_count()",
        "from datetime import datetime\ndatetime.fromtimestamp(0)",
    ],
)
def test_what_is_given_may_be_used(source, text):
    assert not list(touches(source("src/umbel/updates/a.py", text)))
