"""The outbox towards the hub and the record of what has arrived, over one connection after the other.

Frames are queued, numbered where there is a session, and written together once per turn of the loop. While the client
is not connected they wait; frames that were written and not acknowledged are kept by the session's core
(:mod:`trunkline_protocol.session`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from math import inf
from typing import Final

from trunkline.client.connection_state import DisconnectedError
from trunkline.client.link import ClientSession, Link
from trunkline.client.outgoing import (
    SEQ_BYTES,
    Outgoing,
    Oversized,
    SendQueue,
    oversized,
    refused_as_too_large,
    too_large,
)
from trunkline_protocol.errors import RpcError
from trunkline_protocol.session import encode_ack

STORE_BYTES: Final = 1024 * 1024
"""With more bytes than this unacknowledged, nothing new is written until the hub acknowledges."""

BATCH_BYTES: Final = 256 * 1024
"""Bytes written at a stretch, before the socket is asked whether it takes more."""


class Conversation:
    """Sends frames to the hub, in order, and tracks what the hub and this client have received.

    Args:
        max_queued: frames that may wait for a connection.
        max_queued_bytes: bytes of frames that may wait for a connection.
        reconnects: whether there will be another connection after this one.

    Attributes:
        session: the current session, connected or not; None without one.
        epoch: the hub's epoch of idempotency keys; None where it told none.
        hub: a number that changes where the next connection may be to another hub.
        max_message_bytes: the hub's limit of one message, as it announced, or as follows from what it refused.
    """

    def __init__(self, max_queued: int, max_queued_bytes: int, *, reconnects: bool = True) -> None:
        self._loop = asyncio.get_running_loop()
        self._outbox = SendQueue(max_queued, max_queued_bytes)
        self._held = SendQueue(max_queued, max_queued_bytes) if reconnects else SendQueue(0, 0)
        self._link: Link | None = None
        self._flushing: asyncio.Handle | None = None
        self._acknowledging: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._kept: deque[Outgoing] = deque()  # what the session's core keeps, and has not dropped yet
        self.session: ClientSession | None = None
        self.epoch: str | None = None
        self.hub = 1
        self.max_message_bytes: float = inf

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None

    # --- what is sent ---

    def admit(self, what: str, size: int) -> None:
        """Check that one more frame of the user may be sent or, without a connection, may wait for one.

        Raises:
            RpcError: the frame is larger than the hub's limit (-32600).
            DisconnectedError: there is no connection, and the queue is full.
        """
        self.require_size(size)
        if self._link is not None:
            return
        core = None if self.session is None else self.session.core
        kept = (0, 0) if core is None else (core.unacknowledged, core.unacknowledged_bytes)
        refusal = self._outbox.refusal(size, *kept)
        if refusal is not None:
            raise DisconnectedError(f"{what} was not sent: {refusal}", maybe_executed=False)

    def require_size(self, size: int) -> None:
        """Check that the hub accepts a message of ``size`` bytes.

        Raises:
            RpcError: the message is larger than the hub's limit (-32600).
        """
        if size + SEQ_BYTES > self.max_message_bytes:
            raise too_large(size, int(self.max_message_bytes))

    def send(self, item: Outgoing) -> None:
        """Write a frame as soon as possible, after those sent before."""
        self._outbox.add(item)
        self._flush_soon()

    def send_first(self, items: Sequence[Outgoing]) -> None:
        """Write frames ahead of those that wait, in their order."""
        self._outbox.add_first(items)
        self._flush_soon()

    def hold(self, item: Outgoing) -> bool:
        """Write a frame on the next connection, because this hub is stopping; returns False where the queue is full."""
        if self._held.refusal(item.size, 0, 0) is not None:
            return False
        self._held.add(item)
        return True

    def withdraw(self, item: Outgoing) -> bool:
        """Take a frame that waits out of the queue; returns False if it was written already."""
        return self._outbox.remove(item) or self._held.remove(item)

    async def emptied(self) -> None:
        """Wait until everything is written, or there is no connection."""
        while self._link is not None and len(self._outbox):
            if self._emptied is None:
                self._emptied = self._loop.create_future()
            await asyncio.shield(self._emptied)

    def _flush_soon(self) -> None:
        if self._link is not None and self._flushing is None:
            self._flushing = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the frames that wait, as far as socket and session accept them."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        link = self._link
        if link is None:
            return
        while len(self._outbox) and link.is_open and not link.is_full and not self._store_is_full:
            link.write(self._batch())
        if not len(self._outbox):
            self._tell_emptied()

    @property
    def _store_is_full(self) -> bool:
        return self.session is not None and self.session.core.unacknowledged_bytes > STORE_BYTES

    def _batch(self) -> list[bytes]:
        """Take some of the waiting frames out of the queue, numbered where there is a session."""
        core = None if self.session is None else self.session.core
        now = self._loop.time()
        frames: list[bytes] = []
        size = 0
        while len(self._outbox) and size < BATCH_BYTES:
            item = self._outbox.next()
            frame = item.frame(now)
            if len(frame) + SEQ_BYTES > self.max_message_bytes:  # queued under the limit of an earlier hub
                item.refused(too_large(len(frame), int(self.max_message_bytes)))
                continue
            item.mark_written(self.epoch)
            if core is not None and item.is_numbered:
                frame = core.number(frame)
                self._kept.append(item)
            frames.append(frame)
            size += len(frame)
        return frames

    def _tell_emptied(self) -> None:
        if self._emptied is not None:
            self._emptied.set_result(None)
            self._emptied = None

    # --- what has arrived ---

    def receive(self, seq: int, size: int) -> bool:
        """Note a numbered frame of the hub; returns False for a duplicate.

        Raises:
            ProtocolViolation: a frame before it is missing.
        """
        if self.session is None:
            return True
        is_new = self.session.core.receive(seq, size)
        delay = self.session.core.ack_delay(self._loop.time())
        if delay == 0.0:
            self._acknowledge()
        elif delay is not None and self._acknowledging is None:
            self._acknowledging = self._loop.call_later(delay, self._acknowledge)
        return is_new

    def acknowledged(self, received: int, *, last: bool = False) -> None:
        """Note that the hub has received all frames up to a number. ``last``: it is stopping, and acts on no later one.

        Raises:
            ProtocolViolation: no frame of that number was sent.
        """
        if self.session is not None:
            self.session.core.acknowledge(received)
            self.session.is_ending = last
            self._drop_acknowledged()
            if len(self._outbox):
                self._flush_soon()

    def _drop_acknowledged(self) -> None:
        kept = 0 if self.session is None else self.session.core.unacknowledged
        while len(self._kept) > kept:
            self._kept.popleft()

    def unread(self) -> Collection[Outgoing]:
        """What was written, and certainly not acted on: its hub said so when it stopped."""
        if self.session is None or not self.session.is_ending:
            return ()
        self._drop_acknowledged()
        return set(self._kept)

    def _acknowledge(self) -> None:
        self._stop_acknowledging()
        if self._link is not None and self.session is not None:
            self._link.write([encode_ack(self.session.core.take_ack())])

    def _stop_acknowledging(self) -> None:
        if self._acknowledging is not None:
            self._acknowledging.cancel()
            self._acknowledging = None

    def take_out_oversized(self, unnumbered: int) -> tuple[Oversized, RpcError] | None:
        """After a close with 1009, take the largest unacknowledged frame out of the session, and lower the size limit.

        The hub accepted everything that it has acknowledged, so the largest of the rest is too large in any case.

        Args:
            unnumbered: size in bytes of the largest message outside of the session, of which the caller knows.

        Returns:
            What was taken out, and its error; None where the unnumbered message is the largest.
        """
        frame = b"" if self.session is None else self.session.core.largest()
        self.max_message_bytes = min(self.max_message_bytes, max(len(frame), unnumbered) - 1)
        if self.session is None or len(frame) <= unnumbered:
            return None
        error = refused_as_too_large(len(frame))
        found = oversized(frame, error)
        self.session.core.substitute(frame, found.substitute)
        return found, error

    # --- connections ---

    def attach(self, link: Link, missing: list[bytes]) -> None:
        """Use a new connection: write the session's frames that the hub has not received, then those that wait."""
        self._link = link
        self._outbox.add_first(self._held.take_all())
        link.when_room(self._flush_soon)
        if missing:
            link.write(missing)
        self._flush_soon()

    def detach(self) -> None:
        """Stop writing: the connection is lost."""
        self._link = None
        self._stop_acknowledging()
        self._tell_emptied()

    def forget(self) -> None:
        """Drop the session, which is over, and all frames that only its hub could handle; the others keep waiting."""
        self.session = None
        self._kept.clear()
        self.hub += 1
        self._outbox.drop_stale()
        self._held.drop_stale()

    def drop_all(self) -> None:
        """Drop the session and all frames: there will be no connection any more."""
        self.forget()
        self._outbox.take_all()
        self._held.take_all()
