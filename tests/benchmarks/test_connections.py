"""Fifty nodes of the benchmark on one server: the same program that is run with thousands."""

import connections
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
def test_many_light_nodes_take_part_in_every_round(tls):
    row = connections.measure(50, tls=tls)
    assert len(row.rounds_s) == connections.ROUNDS
    assert row.server_files > 50  # each node is a connection of its own
