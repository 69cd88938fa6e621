"""A call whose outcome is awaited in the hub itself."""

from __future__ import annotations

import asyncio

from typing_extensions import override

from trunkline_protocol.calls import Call
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
