import pytest

from umbel.base import ConfigError
from umbel.deployment.addresses import split_address


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
