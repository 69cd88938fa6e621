"""The turn of plain functions: one runs at a time, and one that waits for a call of its own lets the next run.

All of this is for the event loop's thread alone.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Who may run now: one at a time, in the order they came, those first that have waited for a call."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, *, first: bool = False) -> None:
        """Wait for the turn, and take it.

        Args:
            first: ahead of all others that wait.
        """
        if not self._taken:
            self._taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the turn came with the cancel
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Give the turn to the next that waits, if any."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False
