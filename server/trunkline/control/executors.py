"""What each executor is doing, with its process's share of the machine."""

from __future__ import annotations

import time
from typing import Any, Final

import psutil

from trunkline.control.calls import described
from trunkline.control.health import detailed_executors
from trunkline.control.method import HubView

MAX_RUNNING: Final = 32
"""Calls told of one executor, the oldest first."""


class ExecutorTable:
    """Makes the rows of ``system.executors``. Keeps processes from row to row: CPU time has to be compared."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def rows(self, view: HubView) -> list[dict[str, Any]]:
        """Each executor as ``health.detailed`` has it, with ``cpu_percent`` (None at first) and what it runs."""
        executors = detailed_executors(view)
        now = time.monotonic()
        running = view.pool.running()
        before, self._processes = self._processes, {}
        for executor in executors:
            calls = running.get(executor["worker_id"], [])
            executor["cpu_percent"] = self._cpu_percent(executor["pid"], before)
            executor["running"] = [
                described(call, now) | {"parked": parked}
                for call, parked in sorted(calls, key=lambda item: item[0].received)[:MAX_RUNNING]
            ]
        return executors

    def _cpu_percent(self, pid: int | None, before: dict[int, psutil.Process]) -> float | None:
        if pid is None:
            return None
        try:
            process = before.get(pid) or psutil.Process(pid)
            percent = process.cpu_percent(None)
        except psutil.Error:
            return None
        self._processes[pid] = process
        return round(percent, 1) if pid in before else None
