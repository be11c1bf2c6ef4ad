"""Codecs by name, those of others too, which a package brings by an entry point."""

import pytest

from umbel.base import ConfigError, ProtocolError
from umbel.records import RecordDict
from umbel.records.codecs import codec_names, codec_of
from umbel.testing import codec_checks

CHECKS = dict(codec_checks())
MODULE = """
from umbel.records import decode, encode

class Reversed:
    name = "reversed"
    def encode(self, content):
        return [b"".join(encode(content))[::-1]]
    def decode(self, buffer):
        return decode(bytes(buffer)[::-1])

class Careless(Reversed):
    def decode(self, buffer):
        return {}[bytes(buffer)]

nothing = type("Nothing", (Reversed,), {"decode": lambda self, buffer: None})()
"""
ENTRIES = """
[umbel.codecs]
reversed = their_codec:Reversed
careless = their_codec:Careless
nothing = their_codec:nothing
missing = their_codec:Missing
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of somebody else's, as pip would leave it on the path."""
    info = tmp_path / "their_codec-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-codec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "their_codec.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    for known in (codec_names, codec_of):
        known.cache_clear()
    yield
    for known in (codec_names, codec_of):
        known.cache_clear()


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", ["safetensors", "cbor"])
def test_ours_keep_the_contract(name, check):
    check(codec_of(name))


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_one_of_others_is_found_by_its_entry_point(installed, check):
    assert "reversed" in codec_names()
    check(codec_of("reversed"))


@pytest.mark.parametrize(("name", "text"), [("careless", "KeyError"), ("nothing", "NoneType")])
def test_what_one_of_others_cannot_read_is_refused_as_all_bytes_are(installed, name, text):
    codec = codec_of(name)
    with pytest.raises(ProtocolError, match=f"the codec '{name}' .*{text}"):
        codec.decode(b"".join(codec.encode(RecordDict())))


def test_one_that_cannot_be_loaded_says_so(installed):
    with pytest.raises(ConfigError, match=r"'missing' cannot be loaded: AttributeError"):
        codec_of("missing")


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(ConfigError, match=r"no codec 'json'; here are safetensors, cbor"):
        codec_of("json")


class Wrong:
    """Safetensors with one thing wrong."""

    name = "wrong"

    def encode(self, content):
        return codec_of("").encode(content)

    def decode(self, buffer):
        return codec_of("").decode(buffer)


def wrong(**methods):
    return type("Wrong", (Wrong,), methods)()


def sorted_records(self, buffer):
    content = codec_of("").decode(buffer)
    return RecordDict(dict(sorted(content.items())))


def stops_at(self, buffer):
    return codec_of("").decode(buffer) if len(buffer) > 100 else {}[len(buffer)]


def another_each_time(self, content):
    self.calls = getattr(self, "calls", 0) + 1
    return codec_of("cbor" if self.calls % 2 else "").encode(content)


BREAKERS = {
    "name": wrong(name=""),
    "order": wrong(decode=sorted_records),
    "cut_short": wrong(decode=stops_at),
    "same_bytes": wrong(encode=another_each_time),
}


@pytest.mark.parametrize("name", BREAKERS)
def test_a_check_finds_a_codec_that_breaks_it(name):
    with pytest.raises(AssertionError):
        CHECKS[name](BREAKERS[name])
