"""Fan-out: delivers one event to many connections without blocking the event loop.

Few receivers are served at once. Many are served for some milliseconds per turn of the loop, so that calls go on
meanwhile; later events wait in order behind the one that is being delivered.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from trunkline.hub.outbox import SMALL_EVENT, Outbox
from trunkline_protocol.events import Event, Position, is_after

AT_ONCE: Final = 64
TURN_SECONDS: Final = 0.002
IDLE_TURN_SECONDS: Final = 0.006
"""Seconds per turn while no call is in flight: each turn of the loop costs as much as several deliveries."""

STEP: Final = 32
"""Deliveries between two readings of the clock."""

logger = logging.getLogger("trunkline.hub")


class _Job:
    __slots__ = ("at", "event", "left", "outboxes")

    def __init__(self, event: Event, outboxes: tuple[Outbox, ...]) -> None:
        self.event = event
        self.outboxes = outboxes
        self.at = 0
        self.left: set[Outbox] | None = None


class Fanout:
    """Delivers events in order, for a bounded time per turn of the event loop.

    Args:
        call_soon: schedules a function for the loop's next turn.
        clock: a monotonic clock, in seconds.
        busy: whether calls are in flight.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], Any],
        clock: Callable[[], float],
        busy: Callable[[], bool] = lambda: True,
    ) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._busy = busy
        self._jobs: deque[_Job] = deque()
        self.backlog = 0
        self.deliveries = 0

    @property
    def events(self) -> int:
        """How many events wait, or are being delivered."""
        return len(self._jobs)

    def deliver(self, event: Event, outboxes: tuple[Outbox, ...]) -> None:
        """Send an event to each outbox, after all events of earlier calls."""
        if len(outboxes) <= AT_ONCE and not self._jobs:
            self.deliveries += len(outboxes)
            self._send(event, outboxes)
            return
        if not self._jobs:
            self._call_soon(self._run)
        self._jobs.append(_Job(event, outboxes))
        self.backlog += len(outboxes)

    def leave(self, outbox: Outbox, wanted: Callable[[str], bool]) -> None:
        """Drop the deliveries to a connection of topics that are not ``wanted`` any more: it has unsubscribed."""
        for job in self._jobs:
            if not wanted(job.event.topic):
                job.left = job.left or set()
                job.left.add(outbox)

    def withhold(self, outbox: Outbox, topic: str, after: Position) -> None:
        """Drop the deliveries to a connection of a topic's events after a position: a replay has them."""
        for job in self._jobs:
            if is_after(job.event, topic, after):
                job.left = job.left or set()
                job.left.add(outbox)

    def _send(self, event: Event, outboxes: Sequence[Outbox]) -> None:
        # The innermost loop of a fan-out, nearly always in its first branch. What counts is how many objects it
        # touches for each connection: between two events the processor's caches have forgotten them.
        payload = event.payload
        small = len(payload) <= SMALL_EVENT
        for outbox in outboxes:
            try:
                if outbox.quiet and small:
                    outbox.write_payload(payload)
                else:
                    outbox.send_event(event)
            except Exception:  # the other connections still have to get the event
                logger.exception("an event of %s could not be sent", event.topic)

    def _run(self) -> None:
        until = self._clock() + (TURN_SECONDS if self._busy() else IDLE_TURN_SECONDS)
        while self._jobs:
            job = self._jobs[0]
            event, left = job.event, job.left
            while job.at < len(job.outboxes):
                step = job.outboxes[job.at : job.at + STEP]
                job.at += STEP
                self.backlog -= len(step)
                self.deliveries += len(step)
                self._send(event, step if left is None else [outbox for outbox in step if outbox not in left])
                if self._clock() > until:
                    self._call_soon(self._run)
                    return
            self._jobs.popleft()
