"""The reply to a batch: one frame, when its last member is answered (JSON-RPC 2.0, section 6)."""

from __future__ import annotations

from typing import Final

from trunkline.hub.outbox import Outbox
from trunkline_protocol.codecs import jsonrpc

SMALL_REPLY: Final = 4096
"""Bytes up to which a reply is added to a full batch all the same, so that errors always have room."""


class BatchReply:
    """Gathers the replies of one batch and sends them as one frame."""

    __slots__ = ("_bytes", "_mark", "_outbox", "_replies", "_waiting")

    def __init__(self, outbox: Outbox, expected: int) -> None:
        self._outbox = outbox
        self._replies: list[bytes] = []
        self._waiting = expected
        self._bytes = 0
        self._mark = 0

    def has_room(self, size: int) -> bool:
        """Whether a reply of this size still fits: all replies are kept until the last one, and sent as one frame."""
        return size <= SMALL_REPLY or self._bytes + size <= self._outbox.limit

    def add(self, reply: bytes, mark: int = 0) -> None:
        """Add the reply of one member. The batch must not overtake ``mark``, as returned by :meth:`Outbox.send`."""
        self._replies.append(reply)
        self._bytes += len(reply)
        self._mark = max(self._mark, mark)
        self.skip()

    def skip(self) -> None:
        """Expect one reply less: the member was cancelled silently."""
        self._waiting -= 1
        if not self._waiting and self._replies:
            self._outbox.send(jsonrpc.encode_batch(self._replies), self._mark)
