"""A whole deployment on this machine, each part a process of its own: for tests and measurements.

with LocalDeployment(Path("/tmp/somewhere")) as here:
    here.start_server()
    here.start_node(0)
    here.umbel("run", "examples/quickstart-numpy", "--on", "local", "--stream", "--json")
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

import umbel
from umbel.deployment import (
    Authority,
    Connection,
    Connections,
    JoinToken,
    UserClient,
    create_token,
    join,
)

DEADLINE_S = 60.0


class Program:
    """A process whose output is kept, and can be waited for."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        folder: Path,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._news:
                    self.lines.append(line.rstrip())
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern: str, since: int = 0, deadline_s: float = DEADLINE_S) -> re.Match:
        """Return the match in the first line from ``since`` on that has one."""
        searched = since
        until = time.monotonic() + deadline_s
        with self._news:
            while True:
                for line in self.lines[searched:]:
                    if match := re.search(pattern, line):
                        return match
                searched = len(self.lines)
                if self.process.poll() is not None and not self._reader.is_alive():
                    raise AssertionError(f"it ended before {pattern!r}:\n{self.text()}")
                if not self._news.wait(min(0.5, until - time.monotonic())) and (
                    time.monotonic() >= until
                ):
                    raise AssertionError(f"no {pattern!r} in {deadline_s} s:\n{self.text()}")

    def all_lines(self) -> list[str]:
        """Return all that it printed, once it has ended."""
        self.process.wait()
        self._reader.join()
        return self.lines

    def text(self) -> str:
        return "\n".join(self.lines[-60:])

    def descendants(self) -> list[psutil.Process]:
        """Return the processes that it has started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self, module: str) -> psutil.Process | None:
        """Return a process that it has started to run this module."""
        for process in self.descendants():
            try:
                if module in process.cmdline():
                    return process
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return None

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it and all that it had started are gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it with SIGTERM and return its exit status; what it started has to end with it."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        started = self.descendants()
        self.process.send_signal(number)
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it does not end by itself:\n{self.text()}") from None
        finally:
            _, left = psutil.wait_procs(started, 10)
            for process in left:
                process.kill()
        self._reader.join()
        assert not left, f"it left processes behind: {left}"
        return status


class LocalDeployment:
    """A server, its nodes and its users, on loopback, with TLS and tokens unless told otherwise."""

    def __init__(self, folder: Path, *, insecure: bool = False) -> None:
        self.folder = folder
        self.insecure = insecure
        self.data = folder / "server"
        self.port = 0
        self.server: Program | None = None
        self.nodes: dict[int, Program] = {}
        self._node_options: dict[int, list[str]] = {}
        source = str(Path(umbel.__file__).parents[1])
        self.environment = {
            **os.environ,
            "PYTHONPATH": source,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "COLUMNS": "200",
        }

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def umbel(self, *arguments: str | Path, status: int = 0, timeout_s: float = DEADLINE_S) -> Any:
        """Run a command of ``umbel``; return what it prints, read as JSON if it was asked for."""
        done = subprocess.run(
            [sys.executable, "-m", "umbel.cli", *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        told = f"umbel {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == status, told
        if "--json" in arguments:
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            return lines[0] if len(lines) == 1 else lines
        return done.stdout + done.stderr

    def init_server(self) -> None:
        """Make the server's keys, as ``umbel server init`` does."""
        authority = Authority.create(self.data / "authority", "test")
        keys = authority.server_certificate(["localhost", "127.0.0.1"], 30)
        keys.save(self.data / "identity")

    def start_server(self, *options: str) -> Program:
        """Start a server, or start it again on the port that it had."""
        if not self.insecure and not (self.data / "authority").exists():
            self.init_server()
        tls = ["--insecure"] if self.insecure else []
        self.server = self.program(
            *("server", "--data", str(self.data), "--port", str(self.port), *tls, *options)
        )
        self.port = int(self.server.wait_for(r"umbel server on [^:]+:(\d+)")[1])
        return self.server

    def token(self, role: str, name: str | None = None, ttl_s: float = 600) -> JoinToken:
        """Return a token for this server."""
        authority = Authority.load(self.data / "authority")
        return create_token(authority, role, [self.address], ttl_s, name)  # type: ignore[arg-type]

    def start_node(
        self, number: int, *options: str, token: str | None = None, wait: bool = True
    ) -> Program:
        """Start a node, or start it again with the options that it had; it joins if it has not."""
        if options or number not in self._node_options:
            self._node_options[number] = list(options) or ["--trust-any"]
        data = self.folder / f"node-{number}"
        where = []
        if self.insecure:
            where = [self.address, "--insecure"]
        elif not (data / "identity" / "cert.pem").exists():
            where = ["--join", token or self.token("node").encode()]
        program = self.program(
            *("node", *where, "--data", str(data), "--log-json", *self._node_options[number])
        )
        self.nodes[number] = program
        if wait:
            program.wait_for(r'"event": ?"connected"')
        return program

    def connect(self, name: str = "local", role: str = "admin", user: str = "me") -> UserClient:
        """Add a connection for the commands of a user, and return a client that uses it."""
        connections = Connections(Path(self.environment["XDG_CONFIG_HOME"]) / "umbel")
        if self.insecure:
            connection = Connection(name, self.address, insecure=True)
        else:
            folder = connections.identity_dir(name)
            join(self.token(role, user), folder, user)
            connection = Connection(name, self.address, identity_dir=folder)
        connections.add(connection, replace=True)
        return UserClient(connection)

    def run_folder(self, run_id: str) -> Path:
        return self.data / "runs" / run_id

    def program(self, *arguments: str) -> Program:
        return Program(["-m", "umbel.cli", *arguments], self.environment, self.folder)

    def close(self) -> None:
        """End nodes and server in order; a process that stays behind is an error."""
        programs = [*self.nodes.values(), *([self.server] if self.server else [])]
        problems = []
        for program in programs:
            if program.process.poll() is None:
                try:
                    status = program.stop()
                    if status != 0:
                        problems.append(f"ended with status {status}:\n{program.text()}")
                except AssertionError as error:
                    problems.append(str(error))
        assert not problems, "\n".join(problems)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except AssertionError as problem:
            if error is None:
                raise
            error.add_note(str(problem))


def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Return what the condition returns once it is true; files and processes send no news."""
    ends = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"it did not become true in {deadline_s:g} s")
        time.sleep(0.005)
    return found
