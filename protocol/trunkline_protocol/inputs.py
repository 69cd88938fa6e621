"""The input of one call on its way to the method: what its sender may have outstanding. Pure.

Items are numbered from 0. The end carries no item; its index counts the items before it. The window is fixed: so
many items and bytes may be ahead of what the method has taken, and one item may always go, however large. Totals of
what was taken are absolute, so a lost or repeated one is harmless.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trunkline_protocol.errors import ErrorCode, RpcError

INPUT_WINDOW: Final = 64
"""Items that may be ahead of what the method has taken."""

INPUT_WINDOW_BYTES: Final = 256 * 1024
"""Bytes (JSON) that may be ahead."""


class InputWindow:
    """What was pushed to a call, as the hub counts it.

    Attributes:
        consumed: how many items the method has taken; what a sender that was cut off has to be told again.
        begun: part of it was handed to an executor, which cannot give it back.
        held: items that wait, in whatever form their holder likes, until the call has an executor.
        held_bytes: what those take.
    """

    __slots__ = ("_ahead_bytes", "_ended", "_next", "_sizes", "begun", "consumed", "held", "held_bytes")

    def __init__(self) -> None:
        self._next = 0
        self._ended = False
        self.consumed = 0
        self._sizes: deque[int] = deque()
        self._ahead_bytes = 0
        self.begun = False
        self.held: list[bytes] = []
        self.held_bytes = 0

    def accept(self, index: int, data: bytes, final: bool) -> bool:
        """Count one item. False if it is a repetition, which is to be ignored.

        Raises:
            RpcError: -32602 for a gap, an item after the end, or an end that carries one; 2003 for what is too far
                ahead of the method.
        """
        if index < self._next or (self._ended and final and index == self._next):
            return False
        if self._ended:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"stream.push: item {index} comes after the end of the input")
        if index > self._next:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"stream.push: item {index} came where {self._next} was expected")
        if final:
            self._end(index, data)
        else:
            self._spend(index, len(data))
        return True

    def _end(self, index: int, data: bytes) -> None:
        if data not in (b"", b"null"):
            message = f"stream.push: is_final ends the input and carries no item; push item {index} before it"
            raise RpcError(ErrorCode.INVALID_PARAMS, message)
        self._ended = True

    def _spend(self, index: int, size: int) -> None:
        if len(self._sizes) >= INPUT_WINDOW or self._ahead_bytes >= INPUT_WINDOW_BYTES:
            raise RpcError(
                ErrorCode.RESOURCE_EXHAUSTED,
                f"stream.push: item {index} runs {len(self._sizes)} items and {self._ahead_bytes} bytes ahead of the "
                f"method, which may be {INPUT_WINDOW} and {INPUT_WINDOW_BYTES}; wait for stream.credit",
            )
        self._next += 1
        self._sizes.append(size)
        self._ahead_bytes += size

    def consume(self, consumed: int) -> None:
        """The method has taken ``consumed`` items in total."""
        while self.consumed < consumed and self._sizes:
            self.consumed += 1
            self._ahead_bytes -= self._sizes.popleft()

    def hold(self, item: bytes) -> None:
        """Keep an item until the call has an executor."""
        self.held.append(item)
        self.held_bytes += len(item)

    def release(self) -> list[bytes]:
        """Take out what is held, in order."""
        held, self.held = self.held, []
        self.held_bytes = 0
        return held
