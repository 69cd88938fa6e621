"""A loop without sockets and threads whose time is virtual, and processes on it that can be killed.

A :class:`Process` is a context (:mod:`contextvars`): what begins in it (tasks, timers) belongs to it, and ends with it.
Nobody else has to know: a callback of somebody else's is only ever called in its own context.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, Final, TypeVar, TypeVarTuple
from unittest.mock import patch

from typing_extensions import override

START: Final = 1_000.0
"""What the monotonic clock says when a run begins, in seconds."""

DATE: Final = 1_800_000_000.0
"""What the other clock says more than that."""

_process: Final[ContextVar[Process | None]] = ContextVar("process", default=None)


T = TypeVar("T")
Args = TypeVarTuple("Args")


class Deadlock(Exception):
    """Everything waits, and no timer runs: this would go on for ever."""


class Process:
    """What lives and dies together.

    Args:
        name: for people, and for ledgers.

    Attributes:
        context: whatever calls into it does so in this context.
    """

    def __init__(self, loop: SimulationLoop, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.context: Context = copy_context()
        self.context.run(_process.set, self)
        self._loop = loop

    def soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call a function in it, in the next turn of the loop, unless it is dead by then."""
        self._loop.call_soon(callback, *args, context=self.context)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task in it."""
        return self._loop.create_task(work, context=self.context)

    def kill(self) -> None:
        """End it at once: nothing of it runs any more, not even what comes after an ``except`` or ``finally``."""
        self.is_dead = True
        self._loop.silence(self)


class SimulationLoop(asyncio.BaseEventLoop):
    """See the file.

    Attributes:
        now: seconds, monotonic.
        failures: contexts of what callbacks raised.
    """

    def __init__(self) -> None:
        self.now = START
        self.failures: list[dict[str, Any]] = []
        self._never: list[object] = []
        self._soon: deque[asyncio.Handle] = deque()
        self._later: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers = 0
        super().__init__()
        self.set_exception_handler(lambda _loop, context: self.failures.append(context))

    @override
    def time(self) -> float:
        return self.now

    # A third of a run's time was asyncio's own turns of the loop, in Python: these do what they do, and no more.

    def _run_once(self) -> None:
        """One turn: what was planned for now, or where there is nothing, what comes next in time."""
        soon, later = self._soon, self._later
        if not soon and not self._stopping:  # type: ignore[attr-defined]  # the loop's own
            if not later:
                raise Deadlock
            self.now = max(self.now, later[0][0])
        while later and later[0][0] <= self.now:
            soon.append(heappop(later)[2])
        for _ in range(len(soon)):
            handle = soon.popleft()
            if not handle.cancelled():
                handle._run()

    def _process_events(self, events: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody waits who would have to be woken up."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time has come."""

    @override
    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        process = _process.get() if context is None else context.get(_process)
        if process is not None and process.is_dead:
            self._drop(handle)
        else:
            self._soon.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # there is one thread

    @override
    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        process = _process.get() if context is None else context.get(_process)
        if process is not None and process.is_dead:
            self._drop(timer)
        else:
            self._timers += 1  # of those of one time, the first one is called first
            heappush(self._later, (when, self._timers, timer))
        return timer

    @override
    def call_later(
        self, delay: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def silence(self, process: Process) -> None:
        """Run nothing of a process that has been planned."""
        for handle in [*self._soon, *(timer for _, _, timer in self._later)]:
            if handle._context.get(_process) is process:  # type: ignore[attr-defined]  # where it was begun
                self._drop(handle)

    def _drop(self, handle: asyncio.Handle) -> None:
        """Never run a callback. What it refers to is kept: tasks that end unasked are warned of."""
        self._never.append(handle._callback)  # type: ignore[attr-defined]
        handle.cancel()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and let go of everything else that has begun on the loop."""
        asyncio.set_event_loop(self)
        try:
            return self.run_until_complete(work)
        finally:
            closed: set[asyncio.Task[Any]] = set()
            while left := asyncio.all_tasks(self) - closed:  # what ends may begin others
                for task in left:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be
                    with suppress(BaseException):
                        task.get_coro().close()
                closed |= left
            self._never.clear()
            asyncio.set_event_loop(None)


@contextmanager
def seeded(seed: int) -> Iterator[SimulationLoop]:
    """A loop to run on, while all clocks are its own and all dice fall as the seed says."""
    dice, before = random.Random(f"secrets of {seed}"), random.getstate()
    random.seed(f"everybody's dice of {seed}")
    loop = SimulationLoop()
    try:
        with (
            patch.multiple(time, monotonic=loop.time, perf_counter=loop.time, time=lambda: DATE + loop.now),
            patch.multiple(
                secrets,
                token_hex=lambda size=32: dice.randbytes(size).hex(),
                token_urlsafe=lambda size=32: dice.randbytes(size).hex(),
            ),
        ):
            yield loop
    finally:
        random.setstate(before)
        loop.close()
