import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import ConfigError
from umbel.deployment.connections import Connection, Connections, _toml_string

LOCAL = Connection("local", "localhost:9050", insecure=True)


@pytest.fixture
def connections(tmp_path) -> Connections:
    return Connections(tmp_path / "umbel")


@pytest.fixture
def clinic(connections) -> Connection:
    return Connection("clinic", "fl.example.org:9050", False, connections.identity_dir("clinic"))


def test_connections_are_kept(connections, clinic):
    connections.add(LOCAL)
    connections.add(clinic)
    again = Connections(connections.folder)
    assert again.list() == [clinic, LOCAL]
    assert again.load("clinic") == clinic
    assert stat.S_IMODE(connections.file.stat().st_mode) == 0o600


def test_they_lie_among_the_users_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Connections().file == tmp_path / "umbel" / "connections.toml"
    assert Connections().list() == []


def test_an_unknown_name_lists_the_known_ones(connections, clinic):
    with pytest.raises(ConfigError, match=r"no connection 'x' .*known: none; .*umbel connect"):
        connections.load("x")
    connections.add(LOCAL)
    connections.add(clinic)
    for ask in (connections.load, connections.remove):
        with pytest.raises(ConfigError, match="known: clinic, local"):
            ask("x")


def test_a_name_is_taken_once_unless_told(connections):
    connections.add(LOCAL)
    moved = Connection("local", "localhost:9051", insecure=True)
    with pytest.raises(ConfigError, match="already"):
        connections.add(moved)
    connections.add(moved, replace=True)
    assert connections.load("local") == moved


def test_a_removed_connection_takes_its_own_identity_along_and_no_other(
    connections, clinic, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    other = Connection("other", clinic.address, False, elsewhere)
    for connection in (clinic, other):
        connections.add(connection)
        connection.identity_dir.mkdir(parents=True)
        (connection.identity_dir / "key.pem").touch()
        connections.remove(connection.name)
    assert not clinic.identity_dir.exists()
    assert (elsewhere / "key.pem").exists()
    assert connections.list() == []


@pytest.mark.parametrize("name", ["", "a b", "../a", "a.b", "-a", "é", "a" * 65, 'a"', "a]\n"])
def test_what_cannot_name_a_connection(name, connections):
    with pytest.raises(ConfigError, match="cannot name a connection"):
        Connection(name, "localhost:9050", insecure=True)
    with pytest.raises(ConfigError, match="cannot name a connection"):
        connections.identity_dir(name)


@pytest.mark.parametrize(("insecure", "folder"), [(True, Path("a")), (False, None)])
def test_a_connection_has_an_identity_or_is_insecure(insecure, folder):
    with pytest.raises(ConfigError, match="and not both"):
        Connection("a", "localhost:9050", insecure, folder)


@pytest.mark.parametrize(
    "text",
    [
        "a = 1",
        "[a]",
        "[a]\naddress = 3",
        '[a]\naddress = "localhost:1"\ninsecure = "yes"',
        '[a]\naddress = "localhost:1"\ninsecure = true\nport = 3',
        '[a]\naddress = "localhost"\ninsecure = true',
        '["a b"]\naddress = "localhost:1"\ninsecure = true',
        "[a",
        b"\xff".decode("latin-1"),
    ],
)
def test_a_file_that_was_edited_badly_is_named(text, connections):
    connections.folder.mkdir()
    connections.file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"connections\.toml"):
        connections.list()


def test_a_folder_in_the_file_is_relative_to_the_file(connections):
    connections.folder.mkdir()
    connections.file.write_text('[a]\naddress = "localhost:1"\nidentity = "identities/a"\n')
    assert connections.load("a").identity_dir == connections.identity_dir("a")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_toml(text):
    assert tomllib.loads(f"a = {_toml_string(text)}") == {"a": text}
