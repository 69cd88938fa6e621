"""Between the hub, which speaks JSON-RPC, and a peer that speaks a dialect of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from trunkline.hub.connection import NOWHERE, Connection, Traffic
from trunkline_protocol.codecs.dialect import Deferred, Dialect, Frame
from trunkline_protocol.events import Event


class FrameSink(Protocol):
    """A socket that carries frames; beyond them, what :class:`trunkline.hub.connection.Door` asks of one."""

    def send_frames(self, frames: list[Frame]) -> None:
        """Send frames, in order."""

    def close(self, code: int, reason: str) -> None:
        """See :class:`trunkline.hub.connection.Door`."""

    def traffic(self) -> Traffic:
        """See :class:`trunkline.hub.connection.Door`."""

    def adopt(self, connection: Connection) -> None:
        """See :class:`trunkline.hub.connection.Door`."""

    def disown(self) -> None:
        """See :class:`trunkline.hub.connection.Door`."""

    def overflow(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""

    def pause_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""

    def resume_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""


class Receiver(Protocol):
    """Who takes JSON-RPC messages: :class:`trunkline.edge.intake.Intake`, or what stands before it."""

    @property
    def receive(self) -> Callable[[bytes], None]:
        """Takes one message. Look it up for each: it changes."""

    def take(self, deferred: Deferred) -> None:
        """Take a request that is translated only if that is of use."""


class TranslatingDoor:
    """The :class:`trunkline.hub.connection.Door` of a peer with a dialect: what the hub writes is translated.

    Args:
        sink: the socket.
        dialect: this peer's own.
    """

    def __init__(self, sink: FrameSink, dialect: Dialect) -> None:
        self.dialect = dialect
        self._sink: FrameSink = sink
        self.close = sink.close
        self.adopt = sink.adopt
        self.disown = sink.disown
        self.overflow = sink.overflow
        self.pause_reading = sink.pause_reading
        self.resume_reading = sink.resume_reading

    def end(self) -> None:
        """The socket is gone. It has this, and this has it: only a collection would free them."""
        self._sink = NOWHERE
        self.close, self.adopt, self.disown = NOWHERE.close, NOWHERE.adopt, NOWHERE.disown
        self.overflow, self.pause_reading, self.resume_reading = (
            NOWHERE.overflow,
            NOWHERE.pause_reading,
            NOWHERE.resume_reading,
        )

    def traffic(self) -> Traffic:
        """See :class:`trunkline.hub.connection.Door`."""
        return self._sink.traffic()

    def write(self, messages: list[bytes]) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        send = self.dialect.send
        frames = [frame for message in messages for frame in send(message)]
        if frames:
            self._sink.send_frames(frames)

    def write_event(self, event: Event) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        self._write_payload(event.payload)

    @property
    def write_payload(self) -> Callable[[bytes], object]:
        """See :class:`trunkline.hub.outbox.Writer`."""
        return self._write_payload

    def _write_payload(self, payload: bytes) -> None:
        self.write([payload])

    def receive(self, frame: Frame, intake: Receiver) -> None:
        """Take a frame of the peer.

        Args:
            intake: where the hub takes a JSON-RPC message.

        Raises:
            DialectViolation: see :class:`trunkline_protocol.codecs.dialect.Dialect`.
        """
        received = self.dialect.receive(frame)
        if received.deferred is not None:
            intake.take(received.deferred)
            return
        if received.to_peer:
            self._sink.send_frames(list(received.to_peer))
        for message in received.to_hub:
            intake.receive(message)
