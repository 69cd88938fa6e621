"""Jobs of a real hub, as their owner follows them."""

from __future__ import annotations

from typing import Any

from tests.support import timing
from tests.support.peer import Peer
from tests.support.timing import PATIENCE

FINAL = {"succeeded", "failed", "cancelled"}


async def job(one: Peer, method: str, params: Any = None, **more: Any) -> dict[str, Any]:
    """Make a job."""
    made: dict[str, Any] = await one.result("jobs.create", {"method": method, "params": params or {}, **more})
    return made


async def until(one: Peer, job_id: str, *statuses: str, within: float = PATIENCE) -> dict[str, Any]:
    """The job, once its status is one of these; by default, once it is over."""

    async def reached() -> dict[str, Any] | None:
        found: dict[str, Any] = await one.result("jobs.get", {"id": job_id})
        if found["status"] in (statuses or FINAL):
            return found
        assert found["status"] not in FINAL, found
        return None

    return await timing.until(reached, f"the job is {statuses or FINAL}", within)
