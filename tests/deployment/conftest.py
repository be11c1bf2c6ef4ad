"""What the tests of deployment share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_deployment import LocalDeployment
from renewing import Here, init_server, serving

from umbel.base import VirtualClock
from umbel.deployment.authority import Authority

NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOW)


@pytest.fixture
def authority(tmp_path, clock) -> Authority:
    return Authority.create(tmp_path / "authority", "clinics", clock=clock)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory) -> Iterator[LocalDeployment]:
    """A server with two nodes that run any app, over TLS; its admin is the connection ``local``."""
    with LocalDeployment(tmp_path_factory.mktemp("deployment")) as here:
        here.start_server()
        for number in range(2):
            here.start_node(number, "--trust-any", "--set", "num-partitions=2")
        here.connect().close()
        yield here


@pytest.fixture
def data(tmp_path) -> Path:
    """The folder of a server that has its keys."""
    init_server(tmp_path / "server")
    return tmp_path / "server"


@pytest.fixture
def here(data) -> Iterator[Here]:
    """A server in this process, over TLS, in the folder ``data``."""
    with serving(data) as server:
        yield server
