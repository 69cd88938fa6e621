"""A pool whose executors run in the test's own process: the real pool and the real executors, without a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.support.doubles import Asked
from tests.support.timing import PATIENCE
from trunkline.executors.queueing import DEFAULT_GROUP
from trunkline.executors.specs import ExecutorSpec, GroupSpec
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import RpcError

if TYPE_CHECKING:
    from trunkline.executors.handle import ExecutorHandle
    from trunkline.executors.pool import ExecutorPool


def group_here(name: str = DEFAULT_GROUP, size: int = 1, *modules: str, max_concurrency: int = 4) -> GroupSpec:
    """A group of executors in this process."""
    spec = ExecutorSpec(modules or ("tests.executors.served",), max_concurrency=max_concurrency, in_process=True)
    return GroupSpec(name, spec, size)


class PoolHere:
    """A pool, and how a test calls it.

    Attributes:
        changes: how often an executor has changed its state.
    """

    def __init__(self, groups: Sequence[GroupSpec], **options: Any) -> None:
        # Imported here, for it starts no process: see tests/support/unit.py.
        from trunkline.executors.pool import ExecutorPool

        self.changes = 0
        self.pool: ExecutorPool = ExecutorPool(groups, self._route, on_change=self._changed, **options)

    def _changed(self) -> None:
        self.changes += 1

    def _route(self, call: Call) -> None:
        """As the router does it: a call that is refused has ended."""
        call.backend = self.pool
        try:
            call.info = self.pool.find(call.method)
            self.pool.submit(call)
        except RpcError as error:
            call.settle_error(error)

    def submit(self, method: str, /, **params: Any) -> Asked:
        """Begin a call."""
        call = Asked(method, params)
        self._route(call)
        return call

    async def outcome(self, call: Asked) -> Any:
        """The result, or the error, of a call."""
        return await asyncio.wait_for(asyncio.shield(call.outcome), PATIENCE)

    async def result(self, method: str, /, **params: Any) -> Any:
        """The result of a call."""
        outcome = await self.outcome(self.submit(method, **params))
        assert not isinstance(outcome, RpcError), outcome
        return outcome

    async def error(self, method: str, /, **params: Any) -> RpcError:
        """The error of a call."""
        outcome = await self.outcome(self.submit(method, **params))
        assert isinstance(outcome, RpcError), outcome
        return outcome

    def executor(self, index: int = 0) -> ExecutorHandle:
        """The executor that has the traffic of an index."""
        return self.pool.executors[index]


@asynccontextmanager
async def pool_here(*groups: GroupSpec, **options: Any) -> AsyncIterator[PoolHere]:
    """A pool that is ready; by default of one executor that serves ``tests.executors.served``."""
    here = PoolHere(groups or [group_here()], **options)
    here.pool.start()
    try:
        await asyncio.wait_for(here.pool.wait_ready(), PATIENCE)
        yield here
    finally:
        await here.pool.stop(PATIENCE)
