"""What ``/metrics`` shows, read from the state when it is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from umbel.deployment.server.certificate import ServerCertificate
from umbel.deployment.server.plane import Plane


class _PlaneCollector(Collector):
    def __init__(self, plane: Plane, certificate: ServerCertificate | None) -> None:
        self._plane = plane
        self._certificate = certificate

    def collect(self) -> Iterator[Metric]:
        state = self._plane.state
        yield GaugeMetricFamily(
            "umbel_nodes_connected", "Nodes with an open stream.", value=len(state.live.sessions)
        )
        yield GaugeMetricFamily("umbel_nodes", "Nodes that have joined.", value=len(state.nodes))
        waiting = sum(map(len, state.waiting.values()))
        yield GaugeMetricFamily("umbel_messages_waiting", "Unanswered messages.", value=waiting)
        yield GaugeMetricFamily("umbel_messages", "Messages that are kept.", len(state.messages))
        yield GaugeMetricFamily(
            "umbel_objects_bytes",
            "What the object store holds, in bytes.",
            value=self._plane.objects.total_bytes(),
        )
        yield GaugeMetricFamily(
            "umbel_disk_free_bytes",
            "What is free where the server keeps its data, in bytes.",
            value=shutil.disk_usage(self._plane.objects.folder).free,
        )
        runs = GaugeMetricFamily("umbel_runs", "Runs by status.", labels=["status"])
        statuses = [run.status for run in state.runs.values()]
        for status in sorted(set(statuses)):
            runs.add_metric([status], statuses.count(status))
        yield runs
        ends = GaugeMetricFamily(
            "umbel_certificate_end_seconds",
            "When a certificate ends, since the Unix epoch.",
            labels=["of"],
        )
        for of, end in () if self._certificate is None else self._certificate.ends().items():
            ends.add_metric([of], end)
        yield ends


def plane_registry(plane: Plane, certificate: ServerCertificate | None) -> CollectorRegistry:
    """Return the figures of a plane, its certificates and this process, for Prometheus."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)  # its open files and their limit, memory, processor time
    registry.register(_PlaneCollector(plane, certificate))
    return registry
