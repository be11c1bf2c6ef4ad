"""A connection that is cut in the middle of a transfer: the transfer goes on at its offset."""

import contextlib
import socket
import threading
from pathlib import Path

import pytest
from local_deployment import LocalDeployment

from umbel.base import AppProject
from umbel.records import decode

pytestmark = pytest.mark.slow

SCENARIOS = Path(__file__).parent / "apps" / "scenarios"
VALUES = 2_000_000
BODY_BYTES = 8 * VALUES
CUT_BYTES = BODY_BYTES * 3 // 4


class Proxy:
    """Stands between nodes and their server, counts bytes, and cuts a connection once each way."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self.passed = {"up": [], "down": []}  # bytes, one item a connection
        self.cuts: list[str] = []
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                number = len(self.passed["up"])
                for way, source, sink in (("up", near, far), ("down", far, near)):
                    self.passed[way].append(0)
                    thread = threading.Thread(target=self._pump, args=(way, number, source, sink))
                    self._threads.append(thread)
                    thread.start()

    def _pump(self, way: str, number: int, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
                self.passed[way][number] += len(data)
                if way not in self.cuts and self.passed[way][number] > CUT_BYTES:
                    self.cuts.append(way)
                    break
        self._cut(source, sink)

    def _cut(self, *sockets: socket.socket) -> None:
        for each in sockets or self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            if not sockets:
                each.close()


def test_what_had_come_is_not_sent_again(tmp_path):
    with LocalDeployment(tmp_path) as here, contextlib.ExitStack() as closing:
        here.start_server()
        proxy = Proxy(here.port)
        closing.callback(proxy.close)
        here.start_node(0, f"127.0.0.1:{proxy.port}", "--trust-any")
        user = closing.enter_context(here.connect())
        settings = ["scenario=plain", "nodes=1", f"size={VALUES}", "num-rounds=1"]
        project = AppProject.read(SCENARIOS).with_overrides(settings)
        run_id = user.submit(project, seed=7, seeded=True).run_id
        events = [entry["event"] for entry in user.watch(run_id, follow=True)]
        assert events[-1] == "run_finished"
        assert "failure" not in events
        model = decode((here.run_folder(run_id) / "model.safetensors").read_bytes())
        assert (model["arrays"]["w"].numpy() == 1.0).all()
        assert proxy.cuts == ["down", "up"]
        for way in proxy.cuts:
            first = max(proxy.passed[way])
            others = sum(proxy.passed[way]) - first
            assert first >= CUT_BYTES
            # The rest, and what was on its way when the connection was cut.
            assert BODY_BYTES - first <= others < BODY_BYTES * 3 // 4, proxy.passed
