"""A simulation that never ends by itself; it says when its clients run, and who they are."""

import sys
from pathlib import Path

import psutil

from umbel import run_simulation
from umbel.base import UmbelError
from umbel.records import ConfigRecord, Message, RecordDict
from umbel.serverapp import ServerApp

server = ServerApp()


@server.main()
def main(grid, context):
    config = ConfigRecord({"do": sys.argv[1]})
    contents = RecordDict({"config": config})
    grid.push_messages([Message(contents, node, "train") for node in grid.get_node_ids()])
    me = psutil.Process()
    while len(everyone := me.children(recursive=True)) < int(sys.argv[2]):
        grid.pull_messages([])
    print(*[process.pid for process in everyone], flush=True)
    grid.finish()


try:
    run_simulation(
        server,
        "sim_app:app",
        8,
        backend_config={"workers": 2},
        app_dir=Path(__file__).parent,
        run_dir=sys.argv[3],
    )
except UmbelError as error:
    print(error)
