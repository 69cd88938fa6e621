"""Which executor is stuck, and whether it may be killed now.

Judged by progress: only a call that was to be over, or an idle executor that does not answer, is stuck. Kills are paced
over the whole group, so that clients that go away in the middle of native calls cannot make every model load again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from trunkline.executors.handle import ExecutorHandle
from trunkline_protocol.calls import Call

IDLE_PING_AFTER: Final = 0.5
"""Seconds without a word after which an idle executor is asked for one: health tells within two what cannot serve."""

IDLE_PONG_WITHIN: Final = 10.0
SILENT_AFTER: Final = 0.25
"""Seconds without a word, and then without a pong, until an executor that is at work counts as silent."""

MEASURE_EVERY: Final = 5.0
"""Seconds after which an executor at work is pinged however much it says: how fast it answers is to be known."""

RECOVERY_SECONDS: Final = 60.0
"""How long the next kill waits for an executor that was killed to be ready again."""

Kill = Callable[[ExecutorHandle, str], None]


class KillPace:
    """When the next kill is due: not within ``interval`` of the last, nor while its victim loads. Pure."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._victim: ExecutorHandle | None = None
        self._at = 0.0

    def allows(self, now: float) -> bool:
        """Whether one may be killed at ``now`` (monotonic, seconds)."""
        if self._victim is None:
            return True
        since = now - self._at
        return since >= self._interval and (self._victim.state == "ready" or since >= RECOVERY_SECONDS)

    def killed(self, victim: ExecutorHandle, now: float) -> None:
        """One was."""
        self._victim = victim
        self._at = now


class Watchdog:
    """Looks at all executors of a group every now and then.

    Args:
        kill_after: seconds a call may keep running after its deadline or cancel.
        kill: ends an executor's process; the words say why.
    """

    def __init__(self, executors: Sequence[ExecutorHandle], kill_after: float, kill: Kill) -> None:
        self._executors = executors
        self._kill_after = kill_after
        self._kill = kill
        self._pace = KillPace(kill_after)

    def expect_end(self, handle: ExecutorHandle, call: Call, now: float) -> None:
        """A call's outcome is not wanted any more: from now on it overruns."""
        handle.overdue[call.key] = now + self._kill_after

    def look(self, now: float) -> None:
        """Kill what is stuck, as far as the pace allows; ask idle ones for a sign of life."""
        for handle in self._executors:
            if handle.state not in ("ready", "stopping") or self._kill_late(handle, now):
                continue
            if handle.busy:
                self._listen(handle, now)
            else:
                self._look_at_idle(handle, now)

    def _kill_late(self, handle: ExecutorHandle, now: float) -> bool:
        for key in [key for key, limit in handle.overdue.items() if now > limit]:
            call = handle.in_flight[key]
            if is_held_up(handle, call):
                handle.overdue[key] = now + self._kill_after
            elif self._pace.allows(now):
                self._pace.killed(handle, now)
                handle.blamed = call
                self._kill(handle, f"{call.method} still ran {self._kill_after:.3g} s after it was to be over")
                return True
        return False

    def _listen(self, handle: ExecutorHandle, now: float) -> None:
        """Does it hear what it is sent? A method that holds the interpreter lock, or the loop, keeps it from that."""
        if handle.ping_sent_at:
            handle.silent = now - handle.ping_sent_at >= SILENT_AFTER
        elif now - handle.last_frame_at >= SILENT_AFTER or now - handle.pinged_at >= MEASURE_EVERY:
            handle.ping(now)

    def _look_at_idle(self, handle: ExecutorHandle, now: float) -> None:
        if not handle.ping_sent_at:
            if now - handle.last_frame_at > IDLE_PING_AFTER:
                handle.ping(now)
            return
        handle.silent = now - handle.ping_sent_at >= SILENT_AFTER
        if now - handle.ping_sent_at > IDLE_PONG_WITHIN:
            self._kill(handle, f"it was idle and did not answer a ping for {IDLE_PONG_WITHIN:.0f} s")


def is_held_up(handle: ExecutorHandle, call: Call) -> bool:
    """Whether a call that is late may be so because of another that still has every right to run.

    A plain function may hold the interpreter lock in native code: then nothing else in its executor hears a cancel.
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
    """The calls that may have killed an executor which died just now.

    The one it was killed for, if it was. Else those that ran: of plain functions the first, of coroutines as many as
    run at once. What waited for another call, its reader or its input did not run; and of a call that takes input the
    params are the least.
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
