"""The network between clients and a hub: what is written arrives in order, some time later, or never.

A connection has two ways. Each has its own delays, so that connections overtake each other, though nothing overtakes on
one of them. Both can be held up, and be cut, together or one of them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from tests.simulation.loop import Process, SimulationLoop

LATENCY: Final = 0.0005, 0.01
"""Bounds of how long a message is on its way, in seconds."""


@dataclass(frozen=True, slots=True)
class Message:
    """A frame of a WebSocket: opcode and payload."""

    opcode: int
    payload: bytes


TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


class Trace:
    """Everything that arrived anywhere: the hash of a run, and the lines of a log where one is wanted.

    Args:
        say: takes the lines.
    """

    def __init__(self, loop: SimulationLoop, say: Callable[[str], None] | None = None) -> None:
        self._loop = loop
        self._hash = blake2b(digest_size=8)
        self._say = say

    def note(self, what: str, data: bytes = b"") -> None:
        """Something happened, now."""
        self._hash.update(f"{self._loop.now:.9f} {what} ".encode() + data)
        if self._say is not None:
            self._say(f"{self._loop.now:12.6f} {what} {data.decode(errors='replace')}")

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return self._hash.hexdigest()


class Way:
    """One direction of a connection.

    Args:
        ends: who writes, and who reads.
        arrive: called with each message that arrives, by who reads.
        relieved: called when some of what was on its way has arrived, by who writes.
        latency: bounds in seconds.

    Attributes:
        bytes: on their way.
        is_cut: what is written now, and what is on its way, is lost.
        held_until: what is written now arrives later than this.
        is_held: nothing is taken from it, because who gets it does not read.
    """

    def __init__(
        self,
        trace: Trace,
        name: str,
        dice: random.Random,
        ends: tuple[Process, Process],
        arrive: Callable[[Message], None],
        relieved: Callable[[], None],
        latency: tuple[float, float] = LATENCY,
    ) -> None:
        self.bytes = 0
        self.is_cut = False
        self.is_held = False
        self.held_until = 0.0
        self.latency = latency
        self._trace = trace
        self._name = name
        self._dice = dice
        self._loop = trace._loop
        self._writer, self._reader = ends
        self._arrive = arrive
        self._relieved = relieved
        self._last = 0.0
        self._waiting: deque[tuple[float, Message]] = deque()
        self._runs = False

    def write(self, message: Message) -> None:
        """Send a message."""
        if self.is_cut:
            return
        low, high = self.latency
        due = max(self._last, self.held_until, self._loop.now + low + (high - low) * self._dice.random())
        self._last = due
        self.bytes += len(message.payload)
        self._waiting.append((due, message))
        if not self._runs and not self.is_held:
            self._run(due)

    def hold(self) -> None:
        """Let nothing arrive until :meth:`release`."""
        self.is_held = True

    def release(self) -> None:
        """Go on."""
        self.is_held = False
        if self._waiting and not self._runs:
            self._run(self._waiting[0][0])

    def cut(self) -> None:
        """Lose what is on its way, and everything later."""
        self.is_cut = True
        self._waiting.clear()
        self.bytes = 0

    def _run(self, when: float) -> None:
        self._runs = True
        self._loop.call_at(when, self._deliver, context=self._reader.context)

    def _deliver(self) -> None:
        self._runs = False
        arrived = False
        while self._waiting and self._waiting[0][0] <= self._loop.now and not self.is_held:
            _, message = self._waiting.popleft()
            arrived = True
            self.bytes -= len(message.payload)
            self._trace.note(self._name, message.payload)
            self._arrive(message)
        if self._waiting and not self._runs and not self.is_held:
            self._run(self._waiting[0][0])
        if arrived and not self.is_cut:
            self._writer.soon(self._relieved)
