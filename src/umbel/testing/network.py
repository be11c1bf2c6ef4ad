"""A virtual network: time that jumps from event to event, and links that fail as told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from umbel.base import Seeds, VirtualClock

_LATENCY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong.

    Parameters
    ----------
    kind : str
        `drop`, `delay`, `reorder`, `duplicate` (of a `share` of what is sent), `partition` (some
        `nodes` from the server), or `crash` (of `who`: `server`, `step`, `app`, `node`).
    share : float
        Of what is sent, in [0, 1].
    up_to_s : float
        Most seconds that a delay, an outage or a restart takes.
    times : int
        How often a partition or a crash comes.
    within_s : float
        When it comes at the latest.
    nodes : int
        How many nodes a partition cuts off.
    who : str
        What crashes; `step` is the server, between a step and its entry in the journal, or
        between that entry and the effects.
    """

    kind: str
    share: float = 0.0
    up_to_s: float = 1.0
    times: int = 1
    within_s: float = 60.0
    nodes: int = 1
    who: str = "node"


class Loop:
    """Calls in the order of their virtual time; equal times in the order they were asked for."""

    def __init__(self, seeds: Seeds) -> None:
        self.clock = VirtualClock()
        self.chance = seeds.python()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.clock.now()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call at a time, or at once if it is past."""
        self._count += 1
        heappush(self._heap, (max(when, self.now), self._count, call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call after some seconds."""
        self.at(self.now + seconds, call)

    def run(self, until: Callable[[], bool], limit_s: float) -> None:
        """Go on until the condition holds.

        Raises
        ------
        AssertionError
            If it does not hold after `limit_s` of virtual time.
        """
        while not until():
            assert self._heap, "nothing is going to happen any more"
            when, _, call = heappop(self._heap)
            assert when <= limit_s, f"the world did not end within {limit_s:g} s"
            self.clock.advance(when - self.now)
            call()


class Network:
    """Delivers between a server and its nodes, with the faults of a world."""

    def __init__(self, loop: Loop, faults: Sequence[Fault], nodes: int) -> None:
        self.loop = loop
        self._faults = {f.kind: f for f in faults if f.share}
        self._cut: Mapping[int, int] = dict.fromkeys(range(nodes), 0)
        self._last: dict[tuple[int, bool], float] = {}
        for fault in faults:
            if fault.kind == "partition":
                for _ in range(fault.times):
                    self._partition(fault)

    def _partition(self, fault: Fault) -> None:
        chance, cut = self.loop.chance, dict(self._cut)
        self._cut = cut
        chosen = chance.sample(sorted(cut), fault.nodes)

        def change(by: int) -> None:
            for node in chosen:
                cut[node] += by

        begin = chance.uniform(0, fault.within_s)
        self.loop.at(begin, lambda: change(1))
        self.loop.at(begin + chance.uniform(0, fault.up_to_s), lambda: change(-1))

    def _hit(self, kind: str) -> float:
        """Return by how many seconds a fault of this kind strikes now; 0 if it does not."""
        fault = self._faults.get(kind)
        if fault is None or self.loop.chance.random() >= fault.share:
            return 0.0
        return self.loop.chance.uniform(0, fault.up_to_s) or fault.up_to_s

    def send(self, node: int, up: bool, deliver: Callable[[Any], None], thing: Any) -> None:
        """Send something between the server and a node, `up` to the server or down."""
        for _ in range(2 if self._hit("duplicate") else 1):
            if self._hit("drop"):
                continue
            when = self.loop.now + _LATENCY_S + self._hit("delay")
            late = self._hit("reorder")
            if late:
                when += late
            else:
                when = max(when, self._last.get((node, up), 0.0))
                self._last[node, up] = when

            def arrive() -> None:
                if not self._cut[node]:
                    deliver(thing)

            self.loop.at(when, arrive)
