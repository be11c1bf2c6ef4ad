import pickle
import re

import pytest

import umbel.base
from umbel.base import ConfigError, MissingDependency, RecordError, UmbelError, UsageError

ERRORS = [
    thing
    for name in umbel.base.__all__
    if isinstance(thing := getattr(umbel.base, name), type) and issubclass(thing, UmbelError)
]


def test_the_text_says_what_where_and_what_to_do():
    error = ConfigError("unknown key 'lr'", hint="declare it", node=3, round=7)
    assert str(error) == "[U101] unknown key 'lr' (node: 3, round: 7). Hint: declare it"
    assert str(ConfigError("unknown key")) == "[U101] unknown key"


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_the_way_between_processes(kind):
    error = kind("lost", hint="look at its log", node=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.context) == (str(error), {"node": 3})


def test_an_error_is_also_what_python_programmers_expect():
    assert issubclass(RecordError, ValueError)
    assert issubclass(MissingDependency, ImportError)
    with pytest.raises(UsageError):
        raise MissingDependency("plots need matplotlib")


def test_every_code_is_its_own():
    codes = [kind.code for kind in ERRORS]
    assert len(set(codes)) == len(codes)


def test_every_code_is_documented_and_no_other(request):
    text = (request.config.rootpath / "docs" / "errors.md").read_text()
    entries = dict(re.findall(r"^## (U\d{3} \w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert set(entries) == {f"{kind.code} {kind.__name__}" for kind in ERRORS}
    for title, entry in entries.items():
        assert "**Meaning.**" in entry, title
        assert "**What to do.**" in entry, title
