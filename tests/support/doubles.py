"""Calls and wires that say what became of them, for tests without a client or without an executor."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from typing_extensions import override

from trunkline.executors import ipc
from trunkline.executors.handle import ExecutorHandle
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.catalogue import Catalogue, MethodInfo
from trunkline_protocol.errors import RpcError


class TenantCall(Call):
    """A call of a tenant, which may become another's."""

    def __init__(self, tenant: str, flow: int = 1, priority: int = 1, params: bytes = b"{}", method: str = "m") -> None:
        Call.__init__(self, method, params, priority=priority)
        self.flow = flow
        self.whose = tenant

    @property
    @override
    def tenant(self) -> str:
        return self.whose


class Asked(Call):
    """A call of a principal; without one, of the hub's own.

    Attributes:
        outcome: its result or its error.
        chunks_seen: what it has streamed.
        reports: its progress reports.
    """

    def __init__(self, method: str = "m", params: object = None, who: Caller | None = None) -> None:
        Call.__init__(self, method, msgspec.json.encode({} if params is None else params))
        self._who = who
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.chunks_seen: list[Any] = []
        self.reports: list[Any] = []

    @override
    def caller(self) -> Caller | None:
        return self._who

    @override
    def deliver_result(self, result: bytes) -> None:
        self.outcome.set_result(msgspec.json.decode(result))

    @override
    def deliver_error(self, error: RpcError) -> None:
        self.outcome.set_result(error)

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        self.chunks_seen.append(msgspec.json.decode(data))

    @override
    def deliver_progress(self, value: bytes) -> None:
        self.reports.append(msgspec.json.decode(value))

    @property
    def error(self) -> RpcError:
        """The error that it has ended in."""
        outcome = self.outcome.result()
        assert isinstance(outcome, RpcError), outcome
        return outcome


class Wire(asyncio.Transport):
    """The wire to an executor that is not there: keeps the frames."""

    def __init__(self) -> None:
        super().__init__()
        self._reader = ipc.FrameReader()
        self.frames: list[tuple[int, int, bytes]] = []

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.frames += self._reader.feed(bytes(data))


def ready_handle(index: int, *methods: str) -> tuple[ExecutorHandle, Wire]:
    """An executor that is ready, as far as the hub knows, and its wire."""
    handle, wire = ExecutorHandle(index, {}, lambda _: None, 4), Wire()
    handle.connection_made(wire)
    handle.catalogue = Catalogue([MethodInfo(method) for method in methods])
    handle.state = "ready"
    return handle, wire
