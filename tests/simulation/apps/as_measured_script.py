"""Simulates so many clients with a model of 1 MB and says how much memory all processes took."""

import sys
from pathlib import Path

import numpy as np
import psutil

from umbel import run_simulation
from umbel.records import ArrayRecord, ConfigRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

server, measured = ServerApp(), []


@server.main()
def main(grid, context):
    arrays = ArrayRecord({"w": np.zeros(1 << 18, np.float32)})
    config = ConfigRecord({"do": "learn"})
    return FedAvg(fraction_evaluate=0).start(grid, arrays, num_rounds=2, train_config=config)


def measure(event):
    """Look at the memory ten times a round."""
    if event.name == "progress" and event.data["done"] * 10 // event.data["total"] > len(measured):
        me = psutil.Process()
        everyone = [me, *me.children(recursive=True)]
        measured.append(sum(process.memory_full_info().pss for process in everyone))
    if event.name == "round_finished" and event.data["round"] == 1:
        measured.clear()


run_simulation(
    server,
    "sim_app:app",
    int(sys.argv[1]),
    backend_config={"workers": 2},
    app_dir=Path(__file__).parent,
    observers=[measure],
)
print(max(measured))
