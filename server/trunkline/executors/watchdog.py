"""Finds stuck executors, and decides whether one may be killed now.

Only a call that runs after its deadline or cancellation, or an idle executor that does not answer, counts as stuck.
Kills are paced over the executors of a group, so that clients that disconnect during native calls cannot make every
model load again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.quarantine import Quarantine
from trunkline_protocol.calls import Call

IDLE_PING_AFTER: Final = 0.5
"""Seconds without a frame after which an idle executor is pinged, so that health shows within two that it is silent."""

IDLE_PONG_WITHIN: Final = 10.0
QUIET_AFTER: Final = 0.05
"""Seconds without a frame after which an executor that was sent calls is pinged, and then without a pong after which
others are given work first."""

STALL: Final = 0.05
"""Seconds by which a look is late that count as the hub's own standstill."""

LOOK_EVERY: Final = 5
"""Times that executors are listened to, every QUIET_AFTER, for each look at what is late."""

SILENT_AFTER: Final = 0.25
"""Seconds without a frame, and then without a pong, after which an executor that runs calls counts as silent."""

MEASURE_EVERY: Final = 5.0
"""Seconds after which an executor that runs calls is pinged in any case, to measure its latency."""

RECOVERY_SECONDS: Final = 60.0
"""Seconds that the next kill waits, at most, for the last killed executor to be ready again."""

logger = logging.getLogger("trunkline.executors")

Kill = Callable[[ExecutorHandle, str], None]


class KillPace:
    """Paces kills: none within ``interval`` seconds of the last, nor while its victim loads. Pure."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._victim: ExecutorHandle | None = None
        self._at = 0.0

    def allows(self, now: float) -> bool:
        """Whether an executor may be killed at ``now`` (monotonic, seconds)."""
        if self._victim is None:
            return True
        since = now - self._at
        return since >= self.interval and (self._victim.state == "ready" or since >= RECOVERY_SECONDS)

    def killed(self, victim: ExecutorHandle, now: float) -> None:
        """Note that an executor was killed."""
        self._victim = victim
        self._at = now


class Watchdog:
    """Checks all executors of a pool, at every call of :meth:`look`.

    Args:
        executors: of the pool.
        kill_after: seconds a call may keep running after its deadline or cancellation.
        kill: kills an executor's process, with the reason as text.
    """

    def __init__(self, executors: Sequence[ExecutorHandle], kill_after: float, kill: Kill) -> None:
        self._executors = executors
        self._kill = kill
        self._paces: dict[str, KillPace] = {}
        self.limit(kill_after)

    def limit(self, kill_after: float) -> None:
        """Change ``kill_after``: for calls whose outcome is not wanted any more from now on."""
        self._kill_after = kill_after
        for pace in self._paces.values():
            pace.interval = kill_after

    def _pace(self, group: str) -> KillPace:
        return self._paces.setdefault(group, KillPace(self._kill_after))

    def expect_end(self, handle: ExecutorHandle, call: Call, now: float) -> None:
        """Expect a call to end within ``kill_after`` seconds: its outcome is not wanted any more."""
        handle.overdue[call.key] = now + self._kill_after

    def look(self, now: float) -> None:
        """Kill stuck executors, as far as the pace allows."""
        for handle in self._executors:
            if handle.state not in ("ready", "stopping") or self._kill_late(handle, now):
                continue
            if not handle.busy and handle.ping_sent_at and now - handle.ping_sent_at > IDLE_PONG_WITHIN:
                self._kill(handle, f"it was idle and did not answer a ping for {IDLE_PONG_WITHIN:.0f} s")

    def listen(self, now: float, late: float = 0.0) -> None:
        """Find executors that do not answer, and ping those that have been quiet; to be called every QUIET_AFTER.

        Where one does not answer, a method blocks its loop or holds the interpreter lock, or a signal has stopped it.

        Args:
            late: seconds by which the call is: the hub itself stood still, and has yet to read what they said.
        """
        if late > STALL:
            self._grant(late)
        for handle in self._executors:
            if handle.state not in ("ready", "stopping"):
                continue
            if handle.ping_sent_at:
                unanswered = now - handle.ping_sent_at
                if unanswered >= QUIET_AFTER:
                    handle.unheard(silent=unanswered >= SILENT_AFTER)
                continue
            if handle.shunned:
                handle.judge_anew(now)
            if now - handle.last_frame_at >= _patience(handle) or (
                handle.busy and now - handle.pinged_at >= MEASURE_EVERY
            ):
                handle.ping(now)

    def _grant(self, seconds: float) -> None:
        """Give executors more time to answer, and calls to end."""
        for handle in self._executors:
            if handle.ping_sent_at:
                handle.ping_sent_at += seconds
            handle.overdue.update((key, limit + seconds) for key, limit in handle.overdue.items())

    def _kill_late(self, handle: ExecutorHandle, now: float) -> bool:
        for key in [key for key, limit in handle.overdue.items() if now > limit]:
            call = handle.in_flight[key]
            if is_held_up(handle, call):
                handle.overdue[key] = now + self._kill_after
            elif (pace := self._pace(handle.group)).allows(now):
                pace.killed(handle, now)
                handle.blamed = call
                self._kill(
                    handle, f"{call.method} still ran {self._kill_after:.3g} s after its deadline or cancellation"
                )
                return True
        return False


def _patience(handle: ExecutorHandle) -> float:
    """The seconds without a frame after which an executor is pinged."""
    if not handle.busy:
        return IDLE_PING_AFTER
    return QUIET_AFTER if handle.owes else SILENT_AFTER


def is_held_up(handle: ExecutorHandle, call: Call) -> bool:
    """Whether a late call may be held up by another call that may still run.

    A plain function may hold the interpreter lock in native code: then no other call of its executor can be cancelled.
    """
    return any(
        other is not call
        and not other.settled
        and other.info is not None
        and other.info.lane == "thread"
        and (key < call.key or (call.info is not None and call.info.lane == "loop"))
        for key, other in handle.in_flight.items()
    )


def suspects_of(handle: ExecutorHandle) -> list[Call]:
    """The calls that may have killed an executor that has just died.

    If the hub killed it because of a call, that one. Otherwise those that ran: of plain functions the first, of
    coroutines as many as run at once. Calls that waited for another call, their reader or their input did not run, and
    calls that take input are left out, because their params say little of what they did.
    """
    if handle.blamed is not None:
        return [handle.blamed]
    free = {name: lane.slots for name, lane in handle.lanes.items()}
    suspects = []
    for key, call in handle.in_flight.items():
        if call.info is None or call.info.input is not None or handle.parked.get(key):
            continue
        if free[call.info.lane]:
            free[call.info.lane] -= 1
            suspects.append(call)
    return suspects


def count_kill(handle: ExecutorHandle, quarantine: Quarantine) -> None:
    """Note the inputs that may have killed an executor that has just died: each once, however many calls had it."""
    now = time.monotonic()
    for method, params, tenant in dict.fromkeys(
        (each.method, each.params, each.tenant) for each in suspects_of(handle)
    ):
        if quarantine.killed(method, params, now, tenant):
            words = "an input of %s was running whenever one of several executors died, and is refused for a while"
            logger.warning(words, method)
