"""One WebSocket connection: picows' frames on one side, a connection of the hub on the other.

``upgrade.py`` takes every upgrade from uvicorn and gives the transport to picows. From then on frames go from the
socket into picows, and whole messages from :class:`WebSocketListener` into the hub.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport
from typing_extensions import override

from trunkline.edge.context import MAX_CLIENT_CHARS, EdgeContext
from trunkline.edge.fragments import (
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    TOO_MUCH_IN_PART,
    TRY_AGAIN_LATER,
    UNSUPPORTED_DATA,
    Assembler,
    FrameRefused,
    check_text,
    is_sendable,
)
from trunkline.edge.intake import Intake
from trunkline.edge.translation import TranslatingDoor
from trunkline.edge.transport import CLOSE_TIMEOUT, LingeringTransport, close_reason
from trunkline.edge.websocket.endpoints import Negotiated
from trunkline.edge.websocket.heartbeat import Heartbeat
from trunkline.hub.byte_account import STEP, Holding
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Connection, Door, Traffic
from trunkline.hub.outbox import SMALL_EVENT, Outbox
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.codecs.dialect import DialectViolation, Frame
from trunkline_protocol.events import Event

NORMAL_CLOSURE: Final = 1000
SERVICE_RESTART: Final = 1012
GOING_AWAY: Final = 1001

logger = logging.getLogger("trunkline.edge")


class WebSocketListener(WSListener):
    """Checks one connection's frames (control frames, fragments, UTF-8, sizes) and hands whole messages to the hub.

    Args:
        agreed: subprotocol and dialect of the peer; None for JSON-RPC in text frames.
        client: the peer's User-Agent.
        trace: the upgrade's trace context, for calls that have none.
    """

    def __init__(
        self,
        context: EdgeContext,
        principal: Principal,
        peer: str,
        agreed: Negotiated | None = None,
        client: str | None = None,
        trace: dict[str, str] | None = None,
    ) -> None:
        self._context = context
        self._principal = principal
        self._peer = peer
        self._transport: WSTransport | None = None
        self._write: Callable[[bytes], None] = _drop
        self.write_payload: Callable[[bytes], object] = _drop
        self._connection: Connection | None = None
        self._intake: Intake | None = None
        agreed = agreed or Negotiated(None)
        self._kind = agreed.transport
        self._trace = trace or {}
        self._client = None if client is None else client[:MAX_CLIENT_CHARS]
        self._translation = None if agreed.dialect is None else TranslatingDoor(self, agreed.dialect)
        self._assembler: Assembler | None = None  # set while a message is open
        self._closing = False
        self._heartbeat: Heartbeat | None = None
        self._resumed = 0
        self._full = False
        self._owed_pong: bytes | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._part: Holding | None = None  # account of an incomplete message, once it is large
        self._turns = 0  # of reading since the last frame
        self._part_begins = 0

    @override
    def on_ws_connected(self, transport: WSTransport) -> None:
        context = self._context
        self._transport = transport
        self._write = transport.underlying_transport.write
        # picows itself drops what is sent after a close frame.
        self.write_payload = functools.partial(transport.send, WSMsgType.TEXT)
        side: Door = self._translation or self
        outbox = Outbox(context.flusher, side, context.outbox_bytes, context.outbox_event_bytes)
        connection = ClientConnection(context.services, outbox, self._principal, self._peer, side)
        connection.inherited = self._trace
        self._connection = connection
        self._intake = Intake(connection, context.services.limits.pending_bytes, self._authenticated)
        context.enter(self, self._peer)
        if self._principal is PENDING:
            allowed = context.services.limits.pending_bytes
            transport.underlying_transport.reading.allow(allowed, self._too_much_before_auth)  # type: ignore[attr-defined]
        context.services.opened(connection)
        socket: LingeringTransport = transport.underlying_transport  # type: ignore[assignment]
        socket.reading.watch(self._look_at_part)
        self._heartbeat = Heartbeat(
            context.ping_interval,
            context.ping_timeout,
            transport.send_ping,
            self._signs_of_life,
            socket.delivery,
            self._on_silence,
        )
        logger.debug("connected", extra={"connection": self._connection.number, "peer": self._peer})

    @override
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._closing and frame.msg_type != WSMsgType.CLOSE:
            return
        try:
            if self._turns:
                self._turns = 0
                self._count_part(0)
            if frame.msg_type == WSMsgType.TEXT and frame.fin and self._assembler is None:
                if frame.rsv1 or frame.rsv2 or frame.rsv3:
                    raise FrameRefused(PROTOCOL_ERROR, "reserved bits are set")
                payload = frame.get_payload_as_bytes()
                check_text(payload)
                if self._translation is None:
                    self._intake.receive(payload)  # type: ignore[union-attr]  # set since on_ws_connected
                else:
                    self._receive_text(payload)
            else:
                self._unusual_frame(transport, frame)
        except FrameRefused as refusal:
            self._log_refusal(refusal.code, refusal.reason)
            self.close(refusal.code, refusal.reason)

    def _look_at_part(self) -> None:
        """Account for bytes that were read and completed no frame: they are part of a large one, which picows keeps."""
        received = self._transport.underlying_transport.reading.received  # type: ignore[union-attr]
        if not self._turns:
            self._part_begins = received
        self._turns += 1
        try:
            self._count_part(received - self._part_begins)
        except FrameRefused as refusal:
            self._refuse_part(refusal.code, refusal.reason)

    def _count_part(self, unfinished: int) -> None:
        """Account for an incomplete message: its fragments, and the bytes of an unfinished frame."""
        size = unfinished + (0 if self._assembler is None else self._assembler.size)
        if self._part is None:
            if size < STEP:
                return
            self._part = self._context.partial.holding(self.principal.owner, self._evict_part)
        if not self._part.update(size):
            raise FrameRefused(TRY_AGAIN_LATER, TOO_MUCH_IN_PART)

    def _evict_part(self) -> None:
        self._refuse_part(TRY_AGAIN_LATER, TOO_MUCH_IN_PART)

    def _refuse_part(self, code: int, reason: str) -> None:
        if not self._closing and self._transport is not None:
            self._transport.underlying_transport.pause_reading()  # picows would keep what comes of the message
            self._log_refusal(code, reason)
            self._say_goodbye(code, reason)
            # Not at once: this may be called from the middle of reading.
            asyncio.get_running_loop().call_soon(self._transport.disconnect)

    def _receive_text(self, message: bytes) -> None:
        if self._translation is None:
            self._intake.receive(message)  # type: ignore[union-attr]  # set since on_ws_connected
        else:
            self._translate(Frame(message))

    def _receive_binary(self, message: bytes) -> None:
        self._translate(Frame(message, binary=True))

    def _translate(self, frame: Frame) -> None:
        assert self._translation is not None
        assert self._intake is not None
        self._intake.require_room(len(frame.payload))
        try:
            self._translation.receive(frame, self._intake)
        except DialectViolation as violation:
            self.send_frames(list(violation.last))
            raise FrameRefused(violation.code, violation.reason) from violation

    def _unusual_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise FrameRefused(PROTOCOL_ERROR, "reserved bits are set")
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._peer_closed(transport, frame)
        elif kind == WSMsgType.BINARY:
            self._data_frame(frame, None if self._translation is None else self._receive_binary)
        elif kind == WSMsgType.TEXT:
            self._data_frame(frame, self._receive_text)
        elif kind == WSMsgType.CONTINUATION:
            self._continuation(frame)
        elif kind == WSMsgType.PING:
            self._pong(frame.get_payload_as_bytes())

    def _pong(self, payload: bytes) -> None:
        """Answer a ping; of those that a peer sends while it does not read, only the last (RFC 6455, 5.5.3)."""
        if self._full:
            self._owed_pong = payload
        elif self._transport is not None and not self._closing:
            self._owed_pong = None
            self._transport.send_pong(payload)

    def _data_frame(self, frame: WSFrame, receive: Callable[[bytes], None] | None) -> None:
        """Take a text or binary frame that is not simply a whole text message."""
        if receive is None:
            raise FrameRefused(UNSUPPORTED_DATA, "this subprotocol has text messages only")
        if self._assembler is not None:
            self._assembler.require_closed()
        if frame.fin:
            receive(frame.get_payload_as_bytes())
        else:
            self._assembler = Assembler(self._context.max_message_bytes)
            self._assembler.start(frame.get_payload_as_bytes(), text=frame.msg_type == WSMsgType.TEXT)
            self._count_part(0)

    def _continuation(self, frame: WSFrame) -> None:
        assembler = self._assembler or Assembler(self._context.max_message_bytes)
        message = assembler.proceed(frame.get_payload_as_bytes(), final=bool(frame.fin))
        if message is None:
            self._count_part(0)
        else:
            self._assembler = None
            self._count_part(0)
            (self._receive_text if assembler.text else self._receive_binary)(message)

    def _peer_closed(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._closing:
            payload = frame.get_payload_as_bytes()  # picows has refused one of a single byte, and reasons not UTF-8
            self._answer_close(int.from_bytes(payload[:2], "big") if payload else NORMAL_CLOSURE)
        transport.disconnect()

    def _answer_close(self, code: int) -> None:
        """Answer a close frame with its code, or with 1002 where that code must not be sent (RFC 6455, 7.4)."""
        if is_sendable(code):
            self._say_goodbye(code)
        else:
            self._say_goodbye(PROTOCOL_ERROR, f"the close code {code} must not be sent (RFC 6455, 7.4)")

    def frame_refused(self, code: int, reason: str) -> None:
        """Close the connection because picows refused a frame; picows ends it after this.

        picows reads one frame ahead: where that one is refused, the frame before it is delivered afterwards. If that
        was a close frame, it counts: whatever follows it is ignored. But picows has the code 0 both for a close frame
        without a code and for the code 0, which must not be sent: then the refused frame is reported.
        """
        if self._closing or self._transport is None:
            return
        socket: LingeringTransport = self._transport.underlying_transport  # type: ignore[assignment]
        socket.pause_reading()  # until it is drained: picows would keep what comes of the message it refused
        handshake = self._transport.close_handshake
        if handshake is not None and handshake.recv is not None and handshake.recv.code:
            self._answer_close(handshake.recv.code)  # type: ignore[arg-type]  # any integer, whatever picows' stubs say
        else:
            self._log_refusal(code, reason)
            self._say_goodbye(code, reason)

    def _log_refusal(self, code: int, reason: str) -> None:
        logger.info("frame refused", extra={"peer": self._peer, "close_code": code, "reason": reason})

    @override
    def on_ws_disconnected(self, transport: WSTransport) -> None:
        socket: LingeringTransport = transport.underlying_transport  # type: ignore[assignment]
        socket.release()
        self._context.leave(self)
        self.leave()
        if self._intake is not None:
            self._intake.end()
        if self._cut is not None:
            self._cut.cancel()
        if self._part is not None:
            self._part.release()
        # Each of these refers to this object: the cycles would keep all of it until a garbage collection, which stops
        # the whole loop.
        self._intake = self._transport = self._heartbeat = self._translation = self._assembler = None
        self._cut = self._part = None
        self.write_payload = _drop

    def leave(self) -> None:
        """Detach the hub's connection: nothing can be sent any more, however long the socket still takes to end."""
        self._closing = True
        self._write = _drop
        if self._heartbeat is not None:
            self._heartbeat.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            logger.debug("disconnected", extra={"connection": connection.number})
            connection.disconnected()

    @override
    def pause_writing(self) -> None:
        self._full = True
        if self._translation is not None:
            self.pause_reading()  # what a dialect answers itself is in no outbox that could bound it
        if self._connection is not None:
            self._connection.writing_paused()

    @override
    def resume_writing(self) -> None:
        self._resumed += 1
        self._full = False
        if self._owed_pong is not None:
            self._pong(self._owed_pong)
        if self._connection is not None:
            self._connection.writing_resumed()
        if self._translation is not None and not self._full:
            self.resume_reading()

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then a close frame; abort the socket if the peer does not answer that in time."""
        if self._closing or self._transport is None:
            return
        self._say_goodbye(code, reason)
        self._cut = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.disconnect, False)

    def _say_goodbye(self, code: int, reason: str = "") -> None:
        """Send what waits and a close frame, after which nothing may be sent."""
        assert self._transport is not None
        self._closing = True
        self._flush()
        if code == SERVICE_RESTART and self._connection is not None and self._connection.session is not None:
            self._connection.session.take_no_more()
        self._transport.send_close(code, close_reason(reason))  # type: ignore[arg-type]  # any integer goes
        self._write = _drop
        self._assembler = None
        # Not at once: this may be called from the middle of the connection's own work.
        asyncio.get_running_loop().call_soon(self.leave)

    def _signs_of_life(self) -> object:
        """A value that changes when bytes have arrived, or when the peer has read enough that writing could resume."""
        socket: LingeringTransport = self._transport.underlying_transport  # type: ignore[union-attr, assignment]
        return socket.reading.received, self._resumed

    def _on_silence(self) -> None:
        assert self._transport is not None
        logger.info("a peer did not answer a ping in time; closing the connection", extra={"peer": self._peer})
        self._say_goodbye(GOING_AWAY, f"nothing received within {self._context.ping_timeout:g} s of a ping")
        self._transport.disconnect(False)

    def _flush(self) -> None:
        if self._connection is not None:
            self._connection.outbox.flush()

    @property
    def principal(self) -> Principal:
        """The peer's principal now: it may change by a call of ``auth``, or with a resumed session."""
        return self._principal if self._connection is None else self._connection.principal

    def traffic(self) -> Traffic:
        """The kind of transport, the client's name, and the bytes received and sent so far."""
        if self._transport is None:
            return Traffic(self._kind, self._client)
        socket: LingeringTransport = self._transport.underlying_transport  # type: ignore[assignment]
        return Traffic(self._kind, self._client, socket.reading.received, socket.sent())

    def adopt(self, connection: Connection) -> None:
        """Hand messages, which are numbered from now on, to the connection of a session."""
        self._connection = connection
        if self._intake is not None:
            self._intake.adopt(connection)

    def disown(self) -> None:
        """Let go of the connection, which goes on over a newer socket: ignore further messages."""
        self._principal = self.principal
        self._connection = None
        if self._intake is not None:
            self._intake.disown()

    def _authenticated(self) -> None:
        self._principal = self.principal
        self._context.authenticated(self)
        self._transport.underlying_transport.reading.allow(None)  # type: ignore[union-attr]

    def _too_much_before_auth(self) -> None:
        self.close(MESSAGE_TOO_BIG, "authenticate before you send large messages")

    def overflow(self) -> None:
        """Close the connection: too much waits for a peer that reads too slowly."""
        logger.warning("a peer reads too slowly; closing the connection", extra={"peer": self._peer})
        self.close(TRY_AGAIN_LATER, "too many bytes wait for this connection; read faster")

    def pause_reading(self) -> None:
        """Read nothing more from the peer until :meth:`resume_reading`."""
        if self._transport is not None and not self._closing:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the peer again."""
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    def write(self, messages: list[bytes]) -> None:
        """Send messages as text frames, in order, with one write."""
        if len(messages) == 1:
            self._transport.send(WSMsgType.TEXT, messages[0])  # type: ignore[union-attr]
            return
        parts: list[bytes] = []
        for message in messages:
            parts.append(text_header(len(message)))
            parts.append(message)
        self._write(b"".join(parts))

    def send_frames(self, frames: list[Frame]) -> None:
        """Send frames of a dialect, in order."""
        for frame in frames:
            kind = WSMsgType.BINARY if frame.binary else WSMsgType.TEXT
            self._transport.send(kind, frame.payload)  # type: ignore[union-attr]  # set since on_ws_connected

    def write_event(self, event: Event) -> None:
        """Send an event; the frame of a large one is made once and shared by all connections."""
        if len(event.payload) <= SMALL_EVENT:
            self.write_payload(event.payload)
            return
        frame = event.frame
        if frame is None:
            frame = event.frame = text_header(len(event.payload)) + event.payload
        self._write(frame)


def _drop(_data: bytes) -> None:
    """Replaces the socket's ``write`` once a close frame was sent."""


_SHORT_HEADERS: Final = tuple(bytes((0x81, size)) for size in range(126))


def text_header(size: int) -> bytes:
    """The header of an unmasked text frame with FIN (RFC 6455, 5.2), for writing many frames at once."""
    if size < len(_SHORT_HEADERS):
        return _SHORT_HEADERS[size]
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")
