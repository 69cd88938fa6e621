"""Calls whose outcome is awaited in the hub itself, through the same router as the calls of clients."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from typing_extensions import override

from trunkline.hub.router import Router
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.errors import RpcError


class FutureCall(Call):
    """A call with ``future``, which gets the result as JSON or raises the error."""

    __slots__ = ("future",)

    def __init__(self, method: str, params: bytes, metadata: bytes) -> None:
        Call.__init__(self, method, params, metadata)
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @override
    def deliver_result(self, result: bytes) -> None:
        if not self.future.done():
            self.future.set_result(result)

    @override
    def deliver_error(self, error: RpcError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class InternalCall(FutureCall):
    """A call of the hub itself, maybe in a tenant. Chunks and progress are discarded: a stream runs to its result."""

    __slots__ = ("_who",)

    def __init__(self, method: str, params: bytes, metadata: bytes, who: Caller | None = None) -> None:
        super().__init__(method, params, metadata)
        self._who = who

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        assert self.backend is not None
        self.backend.grant(self, self.chunks + 1)

    @override
    def caller(self) -> Caller | None:
        return self._who

    @override
    def deliver_progress(self, value: bytes) -> None:
        pass


async def call(
    router: Router,
    method: str,
    params: Any,
    *,
    timeout_ms: int | None = None,
    on_behalf_of: Call | None = None,
    who: Caller | None = None,
) -> Any:
    """Call a method and wait for its result.

    Args:
        on_behalf_of: the call that needs the result: this one waits as those of its connection do.
        who: as whom it is made; None is the hub.

    Raises:
        RpcError: the error that the call ended with.
    """
    metadata = b"" if timeout_ms is None else msgspec.json.encode({"timeout_ms": timeout_ms})
    internal = InternalCall(method, msgspec.json.encode(params), metadata, who)
    if on_behalf_of is not None:
        internal.flow, internal.priority = on_behalf_of.flow, on_behalf_of.priority
    router.route(internal)
    try:
        return msgspec.json.decode(await internal.future)
    except asyncio.CancelledError:
        internal.abandon()
        raise
