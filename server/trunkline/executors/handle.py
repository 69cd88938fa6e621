"""The hub's side of one executor's wire: what it holds, and frames to and from it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final, Literal

from trunkline.executors import ipc
from trunkline.executors.endings import RestartCause
from trunkline.executors.nesting import NestedCall
from trunkline.executors.queueing import LaneLoad
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Catalogue, Lane, ModuleFailure
from trunkline_protocol.framing import FramingError
from trunkline_protocol.inputs import InputWindow

State = Literal["starting", "ready", "stopping", "down"]

MAX_SPEAKERS: Final = 8
JUST_NOW: Final = 0.1
"""Seconds after its outcome in which what an executor prints still is the method's: it came by another pipe."""

logger = logging.getLogger("trunkline.executors")


class ExecutorHandle(asyncio.Protocol):
    """One executor as the pool sees it. The process behind it may be replaced; the index stays.

    Args:
        index: 0-based place in the pool; slots of routing keys are owned by places.
        on_frame: called for each frame with this handle, kind, call id, body.
        on_lost: called when the wire is gone.
        max_concurrency: how many coroutines the executor runs at once.

    Attributes:
        restart_causes: how often it was started again, and why.
        last_restart: ``{cause, words, number, at}``, the last in milliseconds since 1970; None before the first.
        latency: seconds between the last ping that was answered and its pong; None before the first.
        failed_modules: what its process, or the one before that did not get so far, could not load.
        pinged_at: when it was last asked, or began.
        silent: it is at work and does not answer a ping: a method holds the interpreter lock, or the loop. What it has
            is left to it; what is new waits, or goes elsewhere.
    """

    def __init__(
        self,
        index: int,
        on_frame: Callable[[ExecutorHandle, int, int, bytes], None],
        on_lost: Callable[[ExecutorHandle], None],
        max_concurrency: int,
    ) -> None:
        self.index = index
        self.name = f"executor-{index}"
        self.state: State = "down"
        self.pid: int | None = None
        self.catalogue: Catalogue | None = None
        self.restarts = 0
        self.restart_causes: Counter[RestartCause] = Counter()
        self.last_restart: dict[str, Any] | None = None
        self.last_failure: str | None = None
        self.load_failure: str | None = None
        self.failed_modules: list[ModuleFailure] = []
        self.ready_since = 0.0
        self.finished_calls = 0
        self.last_method: str | None = None
        self.failed_calls = 0
        self.last_frame_at = 0.0
        self.ping_sent_at = 0.0
        self.silent = False
        self.on_wire_lost: Callable[[], None] | None = None
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._max_concurrency = max_concurrency
        self.reset()

    def reset(self) -> None:
        """Forget what the last process held."""
        self.in_flight: dict[int, Call] = {}
        self.parked: defaultdict[int, int] = defaultdict(int)
        self.overdue: dict[int, float] = {}
        self.draining: set[int] = set()
        self.recalled: set[int] = set()
        self.blamed: Call | None = None
        self.nested: dict[int, NestedCall] = {}
        self.lanes: dict[Lane, LaneLoad] = {
            "loop": LaneLoad(self._max_concurrency),
            "thread": LaneLoad(1),
        }
        self._reader = ipc.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self.ping_sent_at = 0.0
        self.pinged_at = time.monotonic()
        self.latency: float | None = None
        self._unanswered_since = 0.0
        self.silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socketpair is attached to the loop."""
        self._transport = transport  # type: ignore[assignment]
        self.last_frame_at = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Bytes from the executor."""
        self.last_frame_at = time.monotonic()
        self.ping_sent_at = 0.0
        self.silent = False
        on_frame = self._on_frame
        try:
            for kind, call_id, body in self._reader.feed(data):
                on_frame(self, kind, call_id, body)
        except FramingError:
            logger.exception("executor %d sent bytes that make no sense; giving it up", self.index)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The executor closed its end, or died."""
        self._transport = None
        self._on_lost(self)
        if self.on_wire_lost is not None:
            self.on_wire_lost()

    def send(self, frame: bytes) -> None:
        """Send a frame with the others of this turn of the loop, in order."""
        out = self._out
        out.append(frame)
        if len(out) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def ping(self, now: float) -> None:
        """Ask for a sign of life."""
        self.ping_sent_at = self.pinged_at = now
        if not self._unanswered_since:
            self._unanswered_since = now
        self.send(ipc.frame(ipc.PING))

    def ponged(self, now: float) -> None:
        """It has answered. Of several pings that were on their way the first is the one that is measured."""
        if self._unanswered_since:
            self.latency = now - self._unanswered_since
            self._unanswered_since = 0.0

    def push(self, call: Call, window: InputWindow, body: bytes) -> None:
        """Send one item of a call's input (the body of an INPUT), unless the call is over."""
        if call.key in self.in_flight:
            window.begun = True
            self.send(ipc.frame(ipc.INPUT, call.key, body))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out) if len(out) > 1 else out[0])

    # --- frames about calls that it has ---

    def on_chunk(self, call_id: int, body: bytes) -> None:
        """CHUNK: an item of a stream."""
        call = self.in_flight.get(call_id)
        if call is not None and not call.settled:
            call.last_activity = time.monotonic()
            chunk_type, data = ipc.parse_chunk(body)
            call.stream(chunk_type, data)

    def on_input_credit(self, call_id: int, body: bytes) -> None:
        """INPUT_CREDIT: the method has taken so much of its input."""
        call = self.in_flight.get(call_id)
        if call is not None and call.input is not None and not call.settled:
            call.last_activity = time.monotonic()
            consumed = ipc.parse_credit(body)
            call.input.consume(consumed)
            call.input_consumed(consumed)

    def on_progress(self, call_id: int, body: bytes) -> None:
        """PROGRESS: the method says how far it is."""
        call = self.in_flight.get(call_id)
        if call is not None:
            call.last_activity = time.monotonic()
            call.progress(body)

    # --- slots ---

    def nested_started(self, call_id: int, parent: int, call: NestedCall) -> None:
        """A method waits for a call of its own: its slot is free meanwhile, so that nesting cannot deadlock."""
        self.nested[call_id] = call
        self.park(parent)

    def nested_finished(self, call_id: int, parent: int) -> None:
        """The call a method made is over: the method takes its slot back, even above the limit."""
        self.nested.pop(call_id, None)
        self.unpark(parent)

    def park(self, key: int) -> None:
        """A call waits, for a call of its own, its reader or its input: its slot counts as free."""
        if key in self.in_flight:
            self.parked[key] += 1
            if self.parked[key] == 1:
                self._move_load(key, -1)

    def unpark(self, key: int) -> None:
        """It goes on. Calls that ended meanwhile are not known here any more."""
        if key in self.parked:
            self.parked[key] -= 1
            if not self.parked[key]:
                del self.parked[key]
                self._move_load(key, 1)

    def _move_load(self, key: int, change: int) -> None:
        call = self.in_flight.get(key)
        if call is not None and call.info is not None:
            self.lanes[call.info.lane].load += change

    def abort(self) -> None:
        """Drop the wire; the executor sees the end of file and exits."""
        if self._transport is not None:
            self._transport.abort()

    def speaker(self) -> dict[str, Any]:
        """Whose output this is, for the log: the executor, its process, and the method that runs, or just ran.

        Where several run nobody can tell which of them printed: then all are named.
        """
        said: dict[str, Any] = {"executor": self.index, "pid": self.pid}
        running = {call.method: call for key, call in self.in_flight.items() if not self.parked.get(key)}
        if len(running) == 1:
            ((method, call),) = running.items()
            said["method"] = method
            if call.trace is not None:
                said["trace_id"] = call.trace.trace_id
        elif running:
            said["methods"] = sorted(running)[:MAX_SPEAKERS]
        elif self.last_method is not None and time.monotonic() - self.last_frame_at < JUST_NOW:
            said["method"] = self.last_method
        return said

    def failed(self, cause: RestartCause, words: str) -> None:
        """Its process has ended though nobody asked it to; another is to be started."""
        self.restarts += 1
        self.restart_causes[cause] += 1
        self.last_failure = words
        at = int(time.time() * 1000)
        self.last_restart = {"cause": cause, "words": words, "number": self.restarts, "at": at}

    @property
    def busy(self) -> bool:
        """Whether any call is running or waiting inside."""
        return bool(self.in_flight)
