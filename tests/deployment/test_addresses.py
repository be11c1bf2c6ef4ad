import pytest

from umbel.base import ConfigError
from umbel.deployment.addresses import (
    reached_at,
    remember_addresses,
    remembered_addresses,
    split_address,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("localhost:9050", ("localhost", 9050)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ],
)
def test_host_and_port(text, parts):
    assert split_address(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "localhost:",
        ":9050",
        "::1:9050",
        "a:0",
        "a:65536",
        "a b:1",
        "a:1\n",
        "a:+1",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ConfigError, match="host:port"):
        split_address(text)


@pytest.mark.parametrize(
    ("given", "host", "reached"),
    [
        (["fl.example.org:9200"], "0.0.0.0", ("fl.example.org:9200",)),
        ([], "10.0.0.7", ("10.0.0.7:9050",)),
        ([], "localhost", ("localhost:9050",)),
        ([], "0.0.0.0", ()),
        ([], "[::]", ()),
    ],
)
def test_how_a_server_is_reached_is_remembered(tmp_path, given, host, reached):
    assert remembered_addresses(tmp_path) == ()
    for port in (9049, 9050):
        remember_addresses(tmp_path, reached_at(given, host, port))
    assert remembered_addresses(tmp_path) == reached
