"""Detects half-open TCP connections: peers are pinged, and cut off if nothing at all comes back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

STALL: Final = 0.05
"""Seconds by which a look at the answer is late where the hub itself stood still, and after which it looks again."""

logger = logging.getLogger("trunkline.edge")


class Heartbeat:
    """Pings one peer at regular intervals, however busy: proxies cut connections that are silent in one direction.

    Any byte from the peer counts, not only a pong: a peer in the middle of a long upload cannot answer before its
    message is sent. So does reading: a slow peer has not seen the ping while it still reads what is ahead of it.

    Args:
        interval: seconds between pings.
        timeout: seconds from a ping within which the peer must have sent or read something.
        ping: sends a ping.
        signs: returns a value that changes when bytes have arrived.
        delivery: returns how many sent bytes the peer has received, None where nothing is on its way.
        on_silence: called once, ``timeout`` seconds after a ping to which nothing came back.
    """

    __slots__ = (
        "_before",
        "_delivered",
        "_delivery",
        "_due",
        "_interval",
        "_loop",
        "_next",
        "_on_silence",
        "_ping",
        "_signs",
        "_stalled",
        "_timeout",
        "_timer",
    )

    def __init__(
        self,
        interval: float,
        timeout: float,
        ping: Callable[[], None],
        signs: Callable[[], object],
        delivery: Callable[[], int | None],
        on_silence: Callable[[], None],
    ) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping = ping
        self._signs = signs
        self._delivery = delivery
        self._on_silence = on_silence
        self._before: object = None
        self._delivered: int | None = None
        self._stalled = False
        self._due: float | None = None  # deadline of the answer to a ping, while one is waited for
        self._loop = asyncio.get_running_loop()
        # Jitter: peers that connected at the same time, after a restart, must not be pinged at the same time for ever.
        self._next = self._loop.time() + interval * random.uniform(0.5, 1)  # noqa: S311
        self._timer = self._loop.call_at(self._next, self._wake)

    def stop(self) -> None:
        """Stop pinging: the connection has ended."""
        self._timer.cancel()

    def _wake(self) -> None:
        """Send the ping, or check for the answer to one, that is due now."""
        now = self._loop.time()
        try:
            if self._is_silent(now):
                self._on_silence()
                return
            if now >= self._next:
                self._next = now + self._interval
                self._beat(now)
        except Exception:  # without a heartbeat a connection whose peer is gone would stay for ever
            logger.exception("a heartbeat failed; its schedule starts over")
            self._next, self._due = now + self._interval, None
        wake = self._next if self._due is None else min(self._next, self._due)
        self._timer = self._loop.call_at(wake, self._wake)

    def _is_silent(self, now: float) -> bool:
        """Whether the peer has neither sent nor read anything in time since the ping."""
        if self._due is not None:
            delivered = self._delivery()
            fetching = delivered is not None and delivered != self._delivered
            if fetching or self._signs() != self._before:
                self._due = None
            elif now - self._due > STALL and not self._stalled:
                self._due, self._stalled = now + STALL, True  # what has come meanwhile is still to be read
            else:
                return now >= self._due
        return False

    def _beat(self, now: float) -> None:
        if self._due is None:
            self._before = self._signs()
            self._ping()
            self._delivered = self._delivery()
            self._due, self._stalled = now + self._timeout, False
        else:
            self._ping()
