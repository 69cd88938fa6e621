"""Translates between the hub, which speaks JSON-RPC, and a peer that speaks a dialect of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from trunkline.hub.connection import NOWHERE, Connection, Traffic
from trunkline_protocol.codecs.dialect import Deferred, Dialect, Frame
from trunkline_protocol.events import Event


class FrameSink(Protocol):
    """A socket that carries frames, with the methods of :class:`trunkline.hub.connection.Door` that need no dialect."""

    def send_frames(self, frames: list[Frame]) -> None:
        """Send frames, in order."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then close the socket with this close code and reason."""

    def traffic(self) -> Traffic:
        """The kind of transport, the client's name, and the bytes received and sent so far."""

    def adopt(self, connection: Connection) -> None:
        """Hand messages, which are numbered from now on, to the connection of a session."""

    def disown(self) -> None:
        """Let go of the connection, which goes on over a newer socket: ignore further messages."""

    def overflow(self) -> None:
        """Close the connection: too much waits for a peer that reads too slowly."""

    def pause_reading(self) -> None:
        """Read nothing more from the peer until :meth:`resume_reading`."""

    def resume_reading(self) -> None:
        """Read from the peer again."""


class Receiver(Protocol):
    """Takes JSON-RPC messages: :class:`trunkline.edge.intake.Intake`, or the gate before it."""

    @property
    def receive(self) -> Callable[[bytes], None]:
        """The function that takes one message. Look it up for each message: it changes."""

    def take(self, deferred: Deferred) -> None:
        """Take a request that is translated only where the hub does not refuse its method outright."""


class TranslatingDoor:
    """The :class:`trunkline.hub.connection.Door` of a peer with a dialect: translates what the hub writes.

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
        """Break the reference cycle with the socket, which is gone: only a garbage collection would free the two."""
        self._sink = NOWHERE
        self.close, self.adopt, self.disown = NOWHERE.close, NOWHERE.adopt, NOWHERE.disown
        self.overflow, self.pause_reading, self.resume_reading = (
            NOWHERE.overflow,
            NOWHERE.pause_reading,
            NOWHERE.resume_reading,
        )

    def traffic(self) -> Traffic:
        """The traffic of the socket."""
        return self._sink.traffic()

    def write(self, messages: list[bytes]) -> None:
        """Send messages as frames of the dialect, in order."""
        send = self.dialect.send
        frames = [frame for message in messages for frame in send(message)]
        if frames:
            self._sink.send_frames(frames)

    def write_event(self, event: Event) -> None:
        """Send an event as frames of the dialect."""
        self._write_payload(event.payload)

    @property
    def write_payload(self) -> Callable[[bytes], object]:
        """The function that sends an event's payload as frames of the dialect."""
        return self._write_payload

    def _write_payload(self, payload: bytes) -> None:
        self.write([payload])

    def receive(self, frame: Frame, intake: Receiver) -> None:
        """Translate a frame of the peer and hand its messages to the hub.

        Args:
            intake: takes each JSON-RPC message.

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
