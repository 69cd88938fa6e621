"""An event loop on which time passes as soon as nothing is left to do: timers run in their order, without the wait.

Tests marked ``virtual_time`` run on :class:`VirtualClockLoop`: what a second of silence means is shown in no time, and
exactly, however busy the machine is. They may have no threads, processes or sockets: those live in real time.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Any, Final

from tests.support.timing import PATIENCE

IDLE_SECONDS: Final = PATIENCE
"""Real seconds that a loop without timers waits for a thread or a socket before it says that nothing will happen."""


class _Clock(selectors.DefaultSelector):
    """Instead of waiting, it is later."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            ready = super().select(IDLE_SECONDS)
            assert ready, "everything waits, and there is no timer: this would go on for ever"
            return ready
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with a time of its own.

    Attributes:
        failures: contexts of what callbacks raised.
    """

    def __init__(self) -> None:
        self._clock = _Clock()
        self.failures: list[dict[str, Any]] = []
        super().__init__(self._clock)
        self.set_exception_handler(lambda _loop, context: self.failures.append(context))

    def time(self) -> float:
        return self._clock.now


class VirtualClockLoop(VirtualLoop):
    """One whose time is :func:`time.monotonic`'s, too, until it is closed. It begins at the real one's."""

    def __init__(self) -> None:
        super().__init__()
        self._real = time.monotonic
        self._clock.now = time.monotonic()
        time.monotonic = self.time

    def close(self) -> None:
        time.monotonic = self._real
        super().close()
        assert not self.failures, f"callbacks raised: {self.failures}"
