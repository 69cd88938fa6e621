"""Finds peers that are gone without a word (half-open TCP): pinged, they are cut off if nothing at all comes back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

logger = logging.getLogger("trunkline.edge")


class Heartbeat:
    """Pings one peer at an even pace, however busy it is: proxies cut connections that are silent in one direction.

    Any sign of life counts, a pong is not asked for in particular. A peer in the middle of a long upload cannot answer
    before its message is sent; one that reads slowly has not seen the ping while it still fetches what is ahead of it.

    Args:
        interval: seconds between pings.
        timeout: seconds from a ping until there must have been a sign of life.
        ping: sends a ping.
        signs: returns something that is different after bytes have arrived.
        delivery: how much the peer has fetched of what was sent, None where nothing is left to fetch.
        on_silence: called once, ``timeout`` after a ping without a sign of life.
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
        self._due: float | None = None  # when there must have been a sign of life, while one is waited for
        self._loop = asyncio.get_running_loop()
        # Peers that came all at once, after a restart, must not be pinged all at once for ever.
        self._next = self._loop.time() + interval * random.uniform(0.5, 1)  # noqa: S311
        self._timer = self._loop.call_at(self._next, self._wake)

    def stop(self) -> None:
        """The connection ended."""
        self._timer.cancel()

    def _wake(self) -> None:
        """A ping is due, or the sign of life that one of them has to bring."""
        now = self._loop.time()
        try:
            if self._is_silent(now):
                self._on_silence()
                return
            if now >= self._next:
                self._next = now + self._interval
                self._beat(now)
        except Exception:  # a heart that stops would keep a connection for ever whose peer is gone
            logger.exception("a heartbeat failed; the next one is as if it were the first")
            self._next, self._due = now + self._interval, None
        wake = self._next if self._due is None else min(self._next, self._due)
        self._timer = self._loop.call_at(wake, self._wake)

    def _is_silent(self, now: float) -> bool:
        """Whether no sign of life has come in time."""
        if self._due is not None:
            delivered = self._delivery()
            fetching = delivered is not None and delivered != self._delivered
            if fetching or self._signs() != self._before:
                self._due = None
            else:
                return now >= self._due
        return False

    def _beat(self, now: float) -> None:
        if self._due is None:
            self._before = self._signs()
            self._ping()
            self._delivered = self._delivery()
            self._due = now + self._timeout
        else:
            self._ping()
