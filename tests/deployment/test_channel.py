from pathlib import Path

import grpc
import pytest

from umbel.deployment.channel import server_options


@pytest.fixture(scope="module")
def core():
    (library,) = (Path(grpc.__file__).parent / "_cython").glob("cygrpc*.so")
    return library.read_bytes()


@pytest.mark.parametrize("option", [name for name, _ in server_options()])
def test_grpc_knows_the_option(option, core):
    """It ignores those that it does not know, so that a wrong name goes unnoticed for long."""
    assert option.encode() + b"\0" in core
