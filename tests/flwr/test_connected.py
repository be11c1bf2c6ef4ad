"""Flower's oldest pair of scripts, server.py and client.py, as they are."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import umbel.flwr as fl
from umbel.base import ConfigError, UsageError
from umbel.flwr.managers import register_nodes
from umbel.flwr.old_strategies import FedAvg
from umbel.testing import FakeGrid

APP = Path(__file__).parent / "apps" / "connected"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Growing(FakeGrid):
    """A grid that nodes join while somebody waits for them."""

    def __init__(self):
        super().__init__(lambda message: None, nodes=0)
        self.ids, self.asked = [], []

    def get_node_ids(self):
        return tuple(self.ids)

    def wait_for_nodes(self, count, timeout_s):
        self.asked.append(count)
        self.ids = list(range(min(count, 4)))
        return super().wait_for_nodes(count, timeout_s)


def test_a_manager_waits_for_clients_and_holds_those_that_are_there():
    grid, manager = Growing(), fl.server.SimpleClientManager()
    register_nodes(grid, manager, FedAvg())
    assert (manager.num_available(), grid.asked) == (0, [])
    assert {proxy.cid for proxy in manager.sample(2, min_num_clients=3)} <= {"0", "1", "2"}
    assert (manager.num_available(), grid.asked) == (3, [3])
    grid.ids = [1, 7]
    assert sorted(manager.all()) == ["1", "7"]
    assert manager.sample(1, min_num_clients=9) == []
    assert grid.asked == [3, 9]


def test_a_manager_of_the_apps_own_gets_what_the_strategy_waits_for():
    class Own(fl.server.SimpleClientManager.__base__):
        def __init__(self):
            self.clients = {}

        def register(self, client):
            self.clients[client.cid] = client
            return True

        def unregister(self, client):
            del self.clients[client.cid]

        def all(self):
            return self.clients

        def num_available(self):
            return len(self.clients)

        def wait_for(self, num_clients, timeout):
            return len(self.clients) >= num_clients

        def sample(self, num_clients, min_num_clients=None, criterion=None):
            return list(self.clients.values())[:num_clients]

    grid, manager = Growing(), Own()
    register_nodes(grid, manager, FedAvg(min_available_clients=3))
    assert sorted(manager.all()) == ["0", "1", "2"]


@pytest.mark.slow
def test_a_server_script_and_client_scripts_work_unchanged(request):
    port = str(free_port())
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}

    def start(script, *arguments):
        command = [sys.executable, "-m", "umbel.flwr", str(APP / script), port, *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    # Clients may come first: they wait for the server.
    processes = [start("client.py", "1", "client"), start("client.py", "3", "numpy")]
    processes.insert(0, start("server.py"))
    try:
        out, _ = processes[0].communicate(timeout=60)
        for client in processes[1:]:
            client.communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0]
    accuracy = {"accuracy": [(1, 0.5), (2, 0.5), (3, 0.5)]}
    assert out == f"History [(1, 2.0), (2, 4.0), (3, 6.0)] {accuracy}\n"


def test_a_client_is_given_once():
    with pytest.raises(UsageError, match="give exactly one"):
        fl.client.start_client(server_address="localhost:9")


def test_what_proves_nothing_is_not_taken_in_silence():
    with pytest.raises(fl.NotInUmbel, match="authentication_keys"):
        fl.client.start_client(
            server_address="localhost:9", client_fn=lambda cid: None, authentication_keys=(1, 2)
        )


@pytest.mark.parametrize("start", [fl.server.start_server, fl.client.start_client])
def test_an_argument_that_nobody_knows_is_an_error(start):
    with pytest.raises(TypeError, match="unexpected arguments: colour"):
        start(server_address="localhost:9", colour="red")


def test_a_port_that_is_taken_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot be listened on"):
            fl.server.start_server(server_address=f"127.0.0.1:{taken.getsockname()[1]}")
