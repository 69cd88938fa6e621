"""The input of one call on its way to the method, and how far its sender may run ahead. Pure.

Items are numbered from 0. The end carries no item; its index counts the items before it. The window is fixed: so
many items and bytes may be ahead of what the method has taken (:mod:`trunkline_protocol.flow`).
"""

from __future__ import annotations

from typing import Final

from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.flow import WINDOW_BYTES, WINDOW_ITEMS, SendWindow

INPUT_WINDOW: Final = WINDOW_ITEMS
"""Items that may be ahead of what the method has taken."""

INPUT_WINDOW_BYTES: Final = WINDOW_BYTES
"""Bytes (JSON) that may be ahead."""


class InputWindow:
    """The window of one call's input, as the hub counts it.

    Attributes:
        begun: part of it was handed to an executor, which cannot give it back.
        held: items that wait, in whatever form their holder likes, until the call has an executor.
        held_bytes: what those take.
    """

    __slots__ = ("_ended", "_window", "begun", "held", "held_bytes")

    def __init__(self) -> None:
        self._window = SendWindow(INPUT_WINDOW, INPUT_WINDOW_BYTES)
        self._ended = False
        self.begun = False
        self.held: list[bytes] = []
        self.held_bytes = 0

    @property
    def consumed(self) -> int:
        """How many items the method has taken; what a sender that was cut off has to be told again."""
        return self._window.consumed

    def accept(self, index: int, data: bytes, final: bool) -> bool:
        """Count one item. Returns False for a repetition, which is to be dropped.

        Raises:
            RpcError: -32602 for a gap, an item after the end, or an end that carries one; 2003 for what is too far
                ahead of the method.
        """
        expected = self._window.sent
        if index < expected or (self._ended and final and index == expected):
            return False
        if self._ended:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"stream.push: item {index} comes after the end of the input")
        if index > expected:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"stream.push: item {index} came where {expected} was expected")
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
        window = self._window
        if window.exhausted:
            raise RpcError(
                ErrorCode.RESOURCE_EXHAUSTED,
                f"stream.push: item {index} runs {window.ahead} items and {window.ahead_bytes} bytes ahead of the "
                f"method, which may be {INPUT_WINDOW} and {INPUT_WINDOW_BYTES}; wait for stream.credit",
            )
        window.spend(size)

    def consume(self, consumed: int) -> None:
        """Note that the method has consumed ``consumed`` items in total."""
        self._window.grant(consumed)

    def hold(self, item: bytes) -> None:
        """Keep an item until the call has an executor."""
        self.held.append(item)
        self.held_bytes += len(item)

    def release(self) -> list[bytes]:
        """Remove and return the items that are held, in order."""
        held, self.held = self.held, []
        self.held_bytes = 0
        return held
