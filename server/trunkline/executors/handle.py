"""The hub's side of one executor: the calls it holds, and the frames to and from it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from typing_extensions import override

from trunkline.executors import ipc
from trunkline.executors.endings import RestartCause
from trunkline.executors.nesting import NestedCall
from trunkline.executors.queueing import ANYWHERE, DEFAULT_GROUP, LaneLoad, Queue
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Catalogue, Lane, ModuleFailure
from trunkline_protocol.framing import FramingError
from trunkline_protocol.health_reports import LastRestart
from trunkline_protocol.inputs import InputWindow

State = Literal["starting", "ready", "stopping", "down"]

NOWHERE: Final = -1

MAX_SPEAKERS: Final = 8
MAX_PARAMS_BYTES: Final = 64 * 2**20
"""Size of the params of an executor's calls from which it gets no others, however many it may run at once: this bounds
its memory."""

SUSPICION_TIMES: Final = 10
SUSPICION_SECONDS: Final = 30.0
"""An executor that was silent is shunned for ten times as long, and for so many seconds at most, while calls run that
were running then."""

JUST_NOW: Final = 0.1
"""Seconds after a call's outcome during which output still counts as that method's: it comes through another pipe."""

logger = logging.getLogger("trunkline.executors")


FrameHandler = Callable[["ExecutorHandle", int, bytes], None]
"""Takes a frame: the executor that sent it, the call id and the body."""


class Tally:
    """The calls of one method that one executor has finished: how many, how many failed, and the seconds they ran."""

    __slots__ = ("count", "failed", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0
        self.seconds = 0.0

    def add(self, other: Tally) -> None:
        """Add the calls of another."""
        self.count += other.count
        self.failed += other.failed
        self.seconds += other.seconds


class ExecutorHandle(asyncio.Protocol):
    """One executor of the pool. Where its process ends unasked it gets another; where it is replaced, a successor.

    Args:
        index: 0-based number in the pool, which its successor has as well.
        frames: what takes this handle, call id and body of a frame, by its kind.
        on_lost: called when the wire to the process is closed.
        max_concurrency: how many coroutines the executor runs at once.
        group: the name of its group.
        number: 0-based, in its group; by default the index.

    Attributes:
        tallies: what its processes have finished, by method.
        place: where it owns slots of routing keys: its index, or another number once it has a successor;
            :data:`NOWHERE` as long as it is to be one.
        queues: the queues that it takes waiting calls from: its own, and those it shares, which take turns.
        turn: counts the calls that it has taken.
        idle: set when it runs no call any more, where somebody waits for that.
        restart_causes: how often the process was restarted, by cause.
        last_restart: None before the first.
        started_at: when the process was started, on the monotonic clock, in seconds.
        latency: seconds between the last answered ping and its pong; None before the first.
        sources: the files of its code, with their times of change when it loaded them; see :class:`Catalogue`.
        failed_modules: the modules that the last process that got so far could not load.
        pinged_at: when the last ping was sent, or the process started.
        exhausted: why the hub kills its process for its memory, in words; None where it does not.
        params_bytes: size of the params of its calls.
        owes: whether a call was sent since the last frame came.
        silent: whether it is running calls and does not answer a ping, because a method holds the interpreter lock or
            blocks the loop. It keeps its calls; new ones wait, or go to other executors.
        shunned: whether calls are given to others, as far as they have room: it is silent, has not answered a ping for
            a moment, or was silent lately and still runs what may have made it so.
    """

    def __init__(
        self,
        index: int,
        frames: Mapping[int, FrameHandler],
        on_lost: Callable[[ExecutorHandle], None],
        max_concurrency: int,
        group: str = DEFAULT_GROUP,
        number: int | None = None,
    ) -> None:
        self.index = index
        self.group = group
        self.number = index if number is None else number
        self.name = f"{'executor' if group == DEFAULT_GROUP else group}-{self.number}"
        self.place = index
        self.queues: tuple[Queue, ...] = (index, ANYWHERE)
        self.turn = 0
        self.idle: asyncio.Event | None = None
        self.state: State = "down"
        self.pid: int | None = None
        self.catalogue: Catalogue | None = None
        self.restarts = 0
        self.restart_causes: Counter[RestartCause] = Counter()
        self.last_restart: LastRestart | None = None
        self.last_failure: str | None = None
        self.load_failure: str | None = None
        self.failed_modules: list[ModuleFailure] = []
        self.sources: dict[str, int] = {}
        self.ready_since = 0.0
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.last_method: str | None = None
        self.last_frame_at = 0.0
        self.ping_sent_at = 0.0
        self.on_wire_lost: Callable[[], None] | None = None
        self._frames = frames
        self._on_lost = on_lost
        self._max_concurrency = max_concurrency
        self.reset()

    def reset(self) -> None:
        """Forget the calls and the wire of the last process."""
        self.in_flight: dict[int, Call] = {}
        self.parked: defaultdict[int, int] = defaultdict(int)
        self.params_bytes = 0
        self.overdue: dict[int, float] = {}
        self.draining: set[int] = set()
        self.recalled: set[int] = set()
        self.blamed: Call | None = None
        self.nested: dict[int, NestedCall] = {}
        thread = LaneLoad(1)
        self.lanes: dict[Lane, LaneLoad] = {"loop": LaneLoad(self._max_concurrency, thread), "thread": thread}
        self._reader = ipc.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self.ping_sent_at = 0.0
        self.started_at = self.pinged_at = time.monotonic()
        self.exhausted: str | None = None
        self.latency: float | None = None
        self._unanswered_since = 0.0
        self.owes = self.silent = self.shunned = False
        self._silent_since = 0.0
        self._suspects: frozenset[int] = frozenset()
        self._suspected_until = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Starting counts as a sign of life.
        self._transport = transport  # type: ignore[assignment]
        self.last_frame_at = time.monotonic()

    @override
    def data_received(self, data: bytes) -> None:
        # Any frame counts as an answer to a ping.
        self.last_frame_at = time.monotonic()
        self.ping_sent_at = 0.0
        self.owes = False
        if self.shunned:
            self._heard(self.last_frame_at)
        frames = self._frames
        try:
            for kind, call_id, body in self._reader.feed(data):
                frames[kind](self, call_id, body)
        except FramingError:
            logger.exception("%s sent a malformed frame; closing its wire", self.name)
            self.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        # The executor has closed its end, or died.
        self._transport = None
        self._on_lost(self)
        if self.on_wire_lost is not None:
            self.on_wire_lost()

    def send(self, frame: bytes) -> None:
        """Send a frame, in order and in one write with the others of this turn of the loop."""
        out = self._out
        out.append(frame)
        if len(out) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def unheard(self, *, silent: bool) -> None:
        """Note that a ping has not been answered for a moment or, ``silent``, for longer than a method may take."""
        self.shunned = True
        if silent and not self.silent:
            self.silent = True
            self._silent_since = self.last_frame_at
            self._suspects = frozenset(self.in_flight)

    def _heard(self, now: float) -> None:
        """Judge anew: a method that lets the interpreter lock go for a moment may be about to take it again."""
        if self.silent:
            self.silent = False
            self._suspected_until = now + min(SUSPICION_SECONDS, SUSPICION_TIMES * (now - self._silent_since))
        self.judge_anew(now)

    def judge_anew(self, now: float) -> None:
        """Shun the executor no more once the calls that may have silenced it are over, or it was heard for long."""
        self.shunned = now < self._suspected_until and not self._suspects.isdisjoint(self.in_flight)

    def ping(self, now: float) -> None:
        """Send a ping."""
        self.ping_sent_at = self.pinged_at = now
        if not self._unanswered_since:
            self._unanswered_since = now
        self.send(ipc.frame(ipc.PING))

    def ponged(self, now: float) -> None:
        """Note a pong. Of several pings on their way the latency of the first is measured."""
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

    # --- frames about calls in flight ---

    def on_chunk(self, call_id: int, body: bytes) -> None:
        """Handle CHUNK: an item of a stream."""
        call = self.in_flight.get(call_id)
        if call is not None and not call.settled:
            call.last_activity = time.monotonic()
            chunk_type, data = ipc.parse_chunk(body)
            call.stream(chunk_type, data)

    def on_input_credit(self, call_id: int, body: bytes) -> None:
        """Handle INPUT_CREDIT: how many items of its input the method has taken."""
        call = self.in_flight.get(call_id)
        if call is not None and call.input is not None and not call.settled:
            call.last_activity = time.monotonic()
            consumed = ipc.parse_credit(body)
            call.input.consume(consumed)
            call.input_consumed(consumed)

    def on_progress(self, call_id: int, body: bytes) -> None:
        """Handle PROGRESS: a progress report of the method."""
        call = self.in_flight.get(call_id)
        if call is not None:
            call.last_activity = time.monotonic()
            call.progress(body)

    # --- slots ---

    def nested_started(self, call_id: int, parent: int, call: NestedCall) -> None:
        """Free the slot of a method that waits for a call of its own, so that nesting cannot deadlock."""
        self.nested[call_id] = call
        self.park(parent)

    def nested_finished(self, call_id: int, parent: int) -> None:
        """Give a method its slot back, even above the limit, because the call that it made is over."""
        self.nested.pop(call_id, None)
        self.unpark(parent)

    def park(self, key: int) -> None:
        """Count a call's slot as free while it waits for a call of its own, its reader or its input."""
        if key in self.in_flight:
            self.parked[key] += 1
            if self.parked[key] == 1:
                self._move_load(key, -1)

    def unpark(self, key: int) -> None:
        """Count a call's slot as used again: it goes on. Calls that have ended meanwhile are ignored."""
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
        """Close the wire; the executor sees the end of file and exits."""
        if self._transport is not None:
            self._transport.abort()

    def has_room(self, lane: Lane) -> bool:
        """Whether it may get one more call of a lane."""
        load = self.lanes[lane]
        return load.load < load.limit and self.params_bytes < MAX_PARAMS_BYTES

    def speaker(self, call_id: int = 0) -> dict[str, Any]:
        """Who prints, as members of a log record: the executor, its process, and the method that runs, or just ran.

        Where several methods run all are named, since it is unknown which of them printed.

        Args:
            call_id: the call that says so itself; 0 where that is unknown.
        """
        said: dict[str, Any] = {"executor": self.name, "pid": self.pid}
        if call_id:
            known = self.in_flight.get(call_id)
            return said if known is None else said | _ids(known)
        running = {call.method: call for key, call in self.in_flight.items() if not self.parked.get(key)}
        if len(running) == 1:
            ((method, call),) = running.items()
            said |= {"method": method} | _ids(call)
        elif running:
            said["methods"] = sorted(running)[:MAX_SPEAKERS]
        elif self.state == "stopping":
            pass  # what is printed now, close prints
        elif self.last_method is not None and time.monotonic() - self.last_frame_at < JUST_NOW:
            said["method"] = self.last_method
        return said

    def failed(self, cause: RestartCause, words: str) -> None:
        """Note that the process has ended unasked, and is to be restarted."""
        self.restarts += 1
        self.restart_causes[cause] += 1
        self.last_failure = words
        self.last_restart = LastRestart(cause, words, self.restarts, int(time.time() * 1000))

    def inherit(self, other: ExecutorHandle) -> None:
        """Take over what was counted of another process of the same index."""
        for method, tally in other.tallies.items():
            self.tallies[method].add(tally)
        self.restarts += other.restarts
        self.restart_causes += other.restart_causes
        self.last_restart = self.last_restart or other.last_restart
        other.tallies.clear()
        other.restarts = 0
        other.restart_causes = Counter()

    def serves(self, method: str) -> bool:
        """Whether it is ready, and its catalogue has a method."""
        return self.state == "ready" and self.offers(method)

    def offers(self, method: str) -> bool:
        """Whether its catalogue has a method."""
        return self.catalogue is not None and any(info.name == method for info in self.catalogue.methods)

    @property
    def finished_calls(self) -> int:
        """How many calls its processes have finished."""
        return sum(tally.count for tally in self.tallies.values())

    @property
    def failed_calls(self) -> int:
        """How many of them failed."""
        return sum(tally.failed for tally in self.tallies.values())

    @property
    def busy(self) -> bool:
        """Whether the executor has calls, running or waiting inside."""
        return bool(self.in_flight)


def _ids(call: Call) -> dict[str, str]:
    """What a log line names a call by. No id is made here: whether the call's error has one must not depend on time."""
    request_id, trace = call.known_request_id(), call.trace
    said = {} if request_id is None else {"request_id": request_id}
    return said if trace is None else said | {"trace_id": trace.trace_id}
