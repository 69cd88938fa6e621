"""What waits to be written, in order, and how much of it may. Pure."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from trunkline_protocol.errors import RpcError

logger = logging.getLogger("trunkline.client")


class Outgoing:
    """One frame on its way to the hub.

    Attributes:
        body: JSON, an object.
        is_numbered: whether it is one of those that a session numbers.
        size: bytes that count as waiting.
    """

    __slots__ = ("body", "is_numbered", "size")

    def __init__(self, body: bytes, *, is_numbered: bool = True) -> None:
        self.body = body
        self.is_numbered = is_numbered
        self.size = len(body)

    def frame(self, now: float) -> bytes:
        """What to write at this time of the loop's clock."""
        return self.body

    def mark_written(self) -> None:
        """It is being handed to a socket: from now on the hub may have it."""

    def refused(self, error: RpcError) -> None:
        """The hub that there is now would not take it: it is not written."""
        logger.warning("a message was not sent: %s", error)

    @property
    def survives(self) -> bool:
        """Whether it means the same to a hub that knows nothing of what was sent before."""
        return False


class Notice(Outgoing):
    """A notification of the user's: any hub will do."""

    __slots__ = ()

    @property
    def survives(self) -> bool:
        """See :class:`Outgoing`."""
        return True


class Outbox:
    """Frames that no socket has seen yet.

    Args:
        max_frames: that may wait for a connection.
        max_bytes: that may.
    """

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._items: OrderedDict[Outgoing, None] = OrderedDict()
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self._items)

    def refusal(self, size: int, kept_frames: int, kept_bytes: int) -> str | None:
        """Why one more frame cannot wait for a connection, naming the limit; None if it can.

        Args:
            size: of the frame, in bytes.
            kept_frames: that were written and may have to be written again; they count, too.
            kept_bytes: of those.
        """
        frames = len(self._items) + kept_frames
        if frames >= self._max_frames:
            return f"{frames} frames wait for the connection (max_queued={self._max_frames})"
        total = self.waiting_bytes + kept_bytes
        if total + size > self._max_bytes:
            return (
                f"{total} bytes wait for the connection, and {size} more would be too many "
                f"(max_queued_bytes={self._max_bytes})"
            )
        return None

    def add(self, item: Outgoing) -> None:
        """To the end."""
        self._items[item] = None
        self.waiting_bytes += item.size

    def add_first(self, items: Sequence[Outgoing]) -> None:
        """To the front, in their order."""
        for item in reversed(items):
            self.add(item)
            self._items.move_to_end(item, last=False)

    def remove(self, item: Outgoing) -> bool:
        """Take one out; returns whether it was there."""
        if item not in self._items:
            return False
        del self._items[item]
        self.waiting_bytes -= item.size
        return True

    def next(self) -> Outgoing:
        """Take the oldest out.

        Raises:
            KeyError: there is none.
        """
        item, _ = self._items.popitem(last=False)
        self.waiting_bytes -= item.size
        return item

    def take_all(self) -> list[Outgoing]:
        """Take all out, the oldest first."""
        items = list(self._items)
        self._items.clear()
        self.waiting_bytes = 0
        return items

    def drop_stale(self) -> None:
        """The session is over: drop what means nothing to the next one."""
        for item in [item for item in self._items if not item.survives]:
            self.remove(item)
