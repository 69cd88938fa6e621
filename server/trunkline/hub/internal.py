"""Calls the hub makes itself, through the same router as everyone's."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from typing_extensions import override

from trunkline.hub.router import Router
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import RpcError


class InternalCall(Call):
    """A call whose outcome is a future."""

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

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        assert self.backend is not None
        self.backend.grant(self, self.chunks + 1)

    @override
    def deliver_progress(self, value: bytes) -> None:
        pass


async def call(router: Router, method: str, params: Any, *, timeout_ms: int | None = None) -> Any:
    """Call a method and wait for its result.

    Raises:
        RpcError: the error it ended with.
    """
    metadata = b"" if timeout_ms is None else msgspec.json.encode({"timeout_ms": timeout_ms})
    internal = InternalCall(method, msgspec.json.encode(params), metadata)
    router.route(internal)
    try:
        return msgspec.json.decode(await internal.future)
    except asyncio.CancelledError:
        internal.abandon()
        raise
