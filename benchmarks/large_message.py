"""One message whose body has gigabytes, to a node and back, over TLS.

    python benchmarks/large_message.py --gigabytes 3

No two mebibytes of it are equal. It takes five times its size on the disk.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from local_deployment import LocalDeployment

from umbel.base import AppProject

_TOML = """
[project]
name = "large"
version = "1.0"

[tool.umbel.app.components]
serverapp = "large:server"
clientapp = "large:client"

[tool.umbel.app.config]
mebibytes = 1
"""

_APP = """
import time

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, RecordDict
from umbel.serverapp import ServerApp

client, server = ClientApp(), ServerApp()


@client.query("back")
def back(message, context):
    return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)


@server.main()
def main(grid, context):
    values = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8)
    rows = np.empty((context.run_config["mebibytes"], 1 << 20), np.uint8)
    for number, row in enumerate(rows):
        row[:] = values
        row[:8] = np.frombuffer(np.int64(number).tobytes(), np.uint8)
    content = RecordDict({"arrays": ArrayRecord({"w": rows})})
    begun = time.monotonic()
    (reply,) = grid.send_and_receive([Message(content, grid.get_node_ids()[0], "query.back")])
    if reply.has_error():
        raise RuntimeError(reply.error)
    print(f"{rows.nbytes:,} bytes there and back in {time.monotonic() - begun:.1f} s", flush=True)
    came = reply.content["arrays"]["w"].numpy()
    assert all(np.array_equal(came[number], row) for number, row in enumerate(rows))
    print("every byte came back", flush=True)
"""


class Peaks:
    """The largest resident memory of each kind of process, private pages alone, in MB."""

    def __init__(self) -> None:
        self.mb: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        names = {
            "umbel.clientapp.process": "worker",
            "umbel.deployment.server.child": "server app",
            "node": "node",
            "server": "server",
        }
        while not self._ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    words = process.cmdline()
                    memory = process.memory_info()
                except psutil.Error:
                    continue
                kind = next((name for word, name in names.items() if word in words), None)
                if kind is not None:
                    used = (memory.rss - memory.shared) / 1e6
                    self.mb[kind] = max(self.mb.get(kind, 0.0), used)

    def close(self) -> dict[str, float]:
        self._ended.set()
        self._thread.join()
        return self.mb


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, help="where to work")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="umbel-large-", dir=asked.folder))
    needed = int(asked.gigabytes * 5e9)
    if shutil.disk_usage(folder).free < needed:
        print(f"{folder} has less than {needed:,} bytes left; see --folder", file=sys.stderr)
        return 2
    app = folder / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(_TOML)
    (app / "large.py").write_text(_APP)
    try:
        with LocalDeployment(folder) as here:
            here.start_server()
            here.start_node(0)
            user = here.connect()
            peaks = Peaks()
            mebibytes = int(asked.gigabytes * 1e9 / (1 << 20)) + 1
            project = AppProject.read(app).with_overrides([f"mebibytes={mebibytes}"])
            begun = time.monotonic()
            run_id = user.submit(project, seed=7, seeded=True).run_id
            for _ in user.watch(run_id, follow=True):
                pass
            (state,) = user.runs()
            user.close()
            print((here.run_folder(run_id) / "output.log").read_text(), end="")
            print(f"{state.status} {state.detail} in {time.monotonic() - begun:.1f} s")
            for kind, used in peaks.close().items():
                print(f"{kind:<12} {used:8.0f} MB of its own at most")
    finally:
        shutil.rmtree(folder)
    return 0 if state.status == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
