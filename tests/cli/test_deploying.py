"""The commands of a deployment, as far as they go without a server."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from umbel.deployment import Authority, create_token, granted_role

Umbel = Callable[..., Result]
TokenFor = Callable[..., str]


@pytest.fixture
def token_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenFor:
    """Make tokens of a server that nobody reaches."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    authority = Authority.create(tmp_path / "authority", "server")

    def make(role: str, name: str | None = None) -> str:
        return create_token(authority, granted_role(role), ["127.0.0.1:1"], 60.0, name).encode()

    return make


def said(result: Result) -> str:
    """Return what was printed, without the frame around it."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", result.stderr + result.stdout)


def test_a_connection_is_not_lost_to_another_of_its_name(umbel: Umbel, token_for: TokenFor) -> None:
    assert umbel("connect", "local", "--address", "127.0.0.1:1", "--insecure").exit_code == 0
    result = umbel("connect", "local", "--join", token_for("user", "bob"))
    assert result.exit_code == 2  # and not 1, of a server that was asked and did not answer
    assert "there is a connection local already" in said(result)
    assert "--replace" in said(result)


def test_a_token_is_used_by_those_whom_it_is_for(umbel: Umbel, token_for: TokenFor) -> None:
    result = umbel("connect", "local", "--join", token_for("node"))
    assert (result.exit_code, "the token is for a node" in said(result)) == (2, True)
    result = umbel("node", "--trust-any", "--join", token_for("admin", "alice"))
    assert (result.exit_code, "a user of the role admin" in said(result)) == (2, True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--trust", "foo"], "'foo' is no public key"),
        (["--app", "nowhere"], "nowhere"),
        (["--app", "nowhere", "--trust-any"], "either its own app"),
        (["--trust-any", "--codec", "xml"], "no codec 'xml'"),
    ],
)
def test_a_node_with_wrong_settings_uses_no_token(
    umbel: Umbel, token_for: TokenFor, options: list[str], text: str
) -> None:
    result = umbel("node", "--join", token_for("node"), *options)
    assert result.exit_code == 2
    assert text in said(result)


def test_a_token_comes_from_a_folder_or_from_a_server(umbel: Umbel, token_for: TokenFor) -> None:
    create = ("token", "create", "--role", "node")
    assert umbel(*create, "--data", ".", "--on", "local").exit_code == 2
    assert umbel(*create, "--on", "local", "--address", "127.0.0.1:1").exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--http-port", "99999"],
        ["--node-grace-s", "-1"],
        ["--objects-max-bytes", "-5"],
        ["--address", "foo"],
    ],
)
def test_a_server_does_not_start_with_what_cannot_be(umbel: Umbel, options: list[str]) -> None:
    assert umbel("server", "--insecure", "--port", "0", *options).exit_code == 2


def test_what_is_for_a_server_is_refused_without_one(umbel: Umbel) -> None:
    assert "go with --on" in said(umbel("run", "--stream"))


@pytest.mark.slow
def test_an_http_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "umbel.cli", "server", "--insecure", "--port", "0"]
        result = subprocess.run(
            [*command, "--data", str(tmp_path), "--http-port", port], capture_output=True, text=True
        )
    assert result.returncode == 2, result.stderr
    assert f"127.0.0.1:{port} cannot be listened on" in result.stderr
