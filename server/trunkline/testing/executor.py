"""An executor of a hub in the same process: the real one, whose frames go to the pool and back without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from typing_extensions import override

from trunkline.executors import ipc
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.process import Executor
from trunkline.methods.context import Context
from trunkline.methods.registry import Registry


class _Wire(asyncio.Transport):
    """One direction of a wire without a socket. What is written arrives at once."""

    def __init__(self, arrives: Callable[[bytes], None]) -> None:
        super().__init__()
        self._arrives = arrives

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._arrives(bytes(data))

    @override
    def abort(self) -> None:
        """Do nothing: there is no process that would notice."""

    @override
    def close(self) -> None:
        """Do nothing: there is no process that would notice."""


class MemoryExecutor:
    """Runs the calls that a pool gives to one of its executors.

    Args:
        handle: the pool's side of the executor.
        registry: its methods; more may be put into it at any time.
    """

    def __init__(self, handle: ExecutorHandle, registry: Registry, max_concurrency: int) -> None:
        self._handle = handle
        self._registry = registry
        self._executor = Executor(registry, handle.name, handle.group, max_concurrency=max_concurrency, debug=False)
        handle.connection_made(_Wire(self._executor.wire.data_received))
        self._executor.wire.connection_made(_Wire(handle.data_received))

    @property
    def context(self) -> Context:
        """The context of the executor itself, for the load step of modules."""
        return self._executor.own_context()

    def announce(self) -> None:
        """Tell the pool what the registry has now; from then on it is served."""
        ready = msgspec.json.encode(self._registry.catalogue())
        self._handle.data_received(ipc.frame(ipc.READY, 0, ready))

    async def close(self) -> None:
        """Wait for the calls that were cancelled, and release the threads."""
        await self._executor.runner.finish()
        self._executor.runner.close()
