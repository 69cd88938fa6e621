"""Input of calls that wait for an executor. What one call may have here its window bounds, all of them one limit."""

from __future__ import annotations

from collections.abc import Callable

from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.inputs import InputWindow


class HeldInput:
    """Counts what is held.

    Args:
        limit: bytes, over all calls (setting ``queue_bytes``); one item may always be held.
        retry_after_ms: asked for the hint of a refusal, when one is due.
    """

    def __init__(self, limit: int, retry_after_ms: Callable[[], int]) -> None:
        self._limit = limit
        self._retry_after_ms = retry_after_ms
        self.bytes = 0

    def hold(self, window: InputWindow, body: bytes) -> None:
        """Keep the body of an INPUT until the call has an executor.

        Raises:
            RpcError: 2002, too much is held already.
        """
        if self.bytes and self.bytes + len(body) > self._limit:
            raise limit_error(
                "queue_bytes",
                f"the input of waiting calls takes {self.bytes} bytes already; try again later",
                code=ErrorCode.WORKER_OVERLOADED,
                retry_after_ms=self._retry_after_ms(),
            )
        window.hold(body)
        self.bytes += len(body)

    def release(self, call: Call) -> list[bytes]:
        """Take out what is held for a call, in order."""
        if call.input is None:
            return []
        self.bytes -= call.input.held_bytes
        return call.input.release()


def open_input(call: Call) -> InputWindow:
    """The call's input, from its first item on.

    Raises:
        RpcError: -32602, its method takes none.
    """
    if call.input is None:
        if call.info is None or call.info.input is None:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"stream.push: {call.method} takes no input")
        call.input = InputWindow()
    return call.input
