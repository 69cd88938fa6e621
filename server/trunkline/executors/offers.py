"""Which executors serve a method that not all of them serve: while code is replaced, or modules are missing. Pure.

Calls of methods that all serve wait in one queue, from which any executor takes them. Where executors serve different
methods, each method that some lack has a queue of its own, from which those take that serve it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.queueing import ANYWHERE, LANES, PoolBacklog
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Catalogue, Lane, MethodInfo
from trunkline_protocol.slots import SLOTS

FIRST_QUEUE: Final = -SLOTS - 3
"""The number of the first queue of one method; below those of all places, of :data:`ANYWHERE` and of parked slots."""


class Offers:
    """The queues of methods that only some executors serve.

    Attributes:
        queues: by method, the number of its queue; empty where all executors serve the same.
    """

    def __init__(self) -> None:
        self.queues: dict[str, int] = {}
        self._methods: Mapping[str, MethodInfo] = {}

    def update(
        self, newest: Catalogue, executors: Sequence[ExecutorHandle], methods: dict[str, MethodInfo]
    ) -> list[int]:
        """Compare the catalogues of the executors that have one.

        Args:
            newest: the catalogue of which methods are taken that several have.
            methods: what the pool serves: gets those, and loses what no executor serves any more.

        Returns:
            The queues whose calls may have to wait in others now: none where nothing has changed.
        """
        served = {h: {info.name for info in h.catalogue.methods} for h in executors if h.catalogue is not None}
        everything = set[str]().union(*served.values())
        gone = methods.keys() - everything if len(served) == len(executors) else set[str]()
        for name in gone:
            del methods[name]
        methods |= {info.name: info for info in newest.methods}
        self._methods = methods
        some = sorted(name for name in everything if any(name not in names for names in served.values()))
        before, self.queues = self.queues, {name: FIRST_QUEUE - i for i, name in enumerate(some)}
        for handle, names in served.items():
            own = (queue for name, queue in self.queues.items() if name in names)
            handle.queues = (handle.place, ANYWHERE, *own)
        return [ANYWHERE, *before.values()] if gone or before != self.queues else []

    def queue(self, method: str) -> int:
        """The number of the queue in which calls of a method wait for any executor that serves it."""
        return self.queues.get(method, ANYWHERE)

    def sort(self, queues: Iterable[int], backlog: PoolBacklog) -> list[Call]:
        """Move waiting calls from these queues to those of their methods; returns those that no executor serves."""
        moves = [(lane, queue) for lane in LANES for queue in queues]
        return [call for lane, queue in moves for call in backlog.move((lane, queue), partial(self._place, lane))]

    def _place(self, lane: Lane, call: Call) -> tuple[Lane, int] | None:
        return (lane, self.queue(call.method)) if call.method in self._methods else None
