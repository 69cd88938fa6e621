"""The WebSocket door: picows behind uvicorn's upgrade, on the one port.

``edge/upgrade.py`` takes every upgrade from uvicorn and gives the transport to picows. From then on frames go from the
socket into picows, and whole text messages from :class:`WebSocketListener` into the hub.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from trunkline.edge.access import AccessRules, choose_subprotocol, find_token
from trunkline.edge.fragments import (
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    UNSUPPORTED_DATA,
    Assembler,
    FrameRefused,
    check_text,
    is_sendable,
)
from trunkline.edge.heartbeat import Heartbeat
from trunkline.edge.transport import CLOSE_TIMEOUT, LingeringTransport
from trunkline.hub.connection import Connection, Services
from trunkline.hub.outbox import SMALL_EVENT, Flusher, Outbox
from trunkline.hub.principal import PENDING, Handshake, Principal
from trunkline_protocol.codecs.jsonrpc import encode_error, encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.events import Event

NORMAL_CLOSURE: Final = 1000
TRY_AGAIN_LATER: Final = 1013
GOING_AWAY: Final = 1001
PING_INTERVAL: Final = 25.0
PING_TIMEOUT: Final = 20.0
MAX_REASON_BYTES: Final = 123
MAX_PENDING: Final = 256
"""Connections that may be open without having authenticated."""
AT_ONCE: Final = 50
CLOSE_STEP: Final = 0.02
"""Seconds between the portions in which connections are closed, each of 50 or more."""

logger = logging.getLogger("trunkline.edge")


@dataclass(slots=True)
class WebSocketDoor:
    """Everything the listeners of one hub share."""

    services: Services
    access: AccessRules
    flusher: Flusher
    max_connections: int
    max_message_bytes: int
    outbox_bytes: int
    outbox_event_bytes: int
    auth_call: bool
    ping_interval: float = PING_INTERVAL
    ping_timeout: float = PING_TIMEOUT
    refused: Callable[[str, RpcError], None] = lambda _peer, _error: None
    listeners: dict[WebSocketListener, None] = field(default_factory=dict)
    pending: int = 0

    async def close_all(self, code: int, reason: str, spread: float) -> None:
        """Close every connection, the oldest first, spread over time, so that not all of them come back at once.

        Args:
            spread: seconds for all; a few are closed without waiting.
        """
        listeners = tuple(self.listeners)
        step = max(AT_ONCE, round(len(listeners) * CLOSE_STEP / max(spread, CLOSE_STEP)))
        for begin in range(0, len(listeners), step):
            if begin:
                await asyncio.sleep(CLOSE_STEP)
            for listener in listeners[begin : begin + step]:
                listener.close(code, reason)

    def close_where(self, unwanted: Callable[[Principal], bool], code: int, reason: str) -> int:
        """Close the connections of some principals. Returns how many."""
        chosen = [listener for listener in self.listeners if unwanted(listener.principal)]
        for listener in chosen:
            listener.close(code, reason)
        return len(chosen)

    def accept(self, request: WSUpgradeRequest, peer: str) -> WSUpgradeResponseWithListener:
        """Decide on one upgrade request."""
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        path = request.path.decode("latin-1").partition("?")[0]
        handshake = Handshake(path, peer, headers, find_token(headers))
        try:
            if path != "/ws":
                raise RpcError(ErrorCode.METHOD_NOT_FOUND, f"no WebSocket at {path!r:.100}; the hub's is at /ws")
            if headers.get("sec-websocket-version") != "13":
                raise RpcError(ErrorCode.INVALID_REQUEST, "this hub speaks WebSocket version 13 (RFC 6455)")
            self._check_room()
            principal = self._admit(handshake)
            subprotocol = choose_subprotocol(headers)
        except RpcError as error:
            logger.warning("upgrade refused", extra={"peer": peer, "reason": error.message})
            self.refused(peer, error)
            return _refusal(error)
        except Exception:
            logger.exception("the authenticate hook failed")
            return _refusal(RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection"))
        extra = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
        response = WSUpgradeResponse.create_101_response(extra)
        return WSUpgradeResponseWithListener(response, WebSocketListener(self, principal, peer))

    def _check_room(self) -> None:
        if len(self.listeners) >= self.max_connections:
            raise limit_error("max_connections", f"{len(self.listeners)} connections are open already")

    def _admit(self, handshake: Handshake) -> Principal:
        if not self.auth_call or handshake.token is not None:
            return self.access.admit(handshake)
        self.access.check_address(handshake)
        if self.pending >= MAX_PENDING:
            raise limit_error(
                "auth_call", f"{MAX_PENDING} connections have not authenticated yet; send the token with the upgrade"
            )
        return PENDING


def _refusal(error: RpcError) -> WSUpgradeResponseWithListener:
    body = encode_error(b"null", encode_error_object(error))
    status = 403 if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN) else error.row.http_status
    headers = {"Content-Type": "application/json", "Sec-WebSocket-Version": "13"}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    response = WSUpgradeResponse.create_error_response(HTTPStatus(status), body, headers)
    return WSUpgradeResponseWithListener(response, None)


class WebSocketListener(WSListener):
    """One connection's frames: control frames, fragments, UTF-8, sizes; whole messages go to the hub."""

    def __init__(self, door: WebSocketDoor, principal: Principal, peer: str) -> None:
        self._door = door
        self._principal = principal
        self._peer = peer
        self._transport: WSTransport | None = None
        self._write: Callable[[bytes], None] | None = None
        self.write_payload: Callable[[bytes], object] = _drop
        self._connection: Connection | None = None
        self._receive: Callable[[bytes], None] | None = None
        self._receive_binary: Callable[[bytes], None] | None = None  # for subprotocols with binary messages
        self._assembler: Assembler | None = None  # set while a message is open
        self._closing = False
        self._heartbeat: Heartbeat | None = None
        self._resumed = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The upgrade is done."""
        door = self._door
        self._transport = transport
        self._write = transport.underlying_transport.write
        # What is sent after a close frame picows drops itself.
        self.write_payload = functools.partial(transport.send, WSMsgType.TEXT)
        outbox = Outbox(door.flusher, self, door.outbox_bytes, door.outbox_event_bytes)
        connection = Connection(door.services, outbox, self._principal, self._peer, self)
        self._connection = connection
        self._receive = self._receive_pending if self._principal is PENDING else self._receive_first
        door.listeners[self] = None
        if self._principal is PENDING:
            door.pending += 1
            allowed = door.services.limits.pending_bytes
            transport.underlying_transport.reading.allow(allowed, self._too_much_before_auth)  # type: ignore[attr-defined]
        door.services.opened(connection)
        socket: LingeringTransport = transport.underlying_transport  # type: ignore[assignment]
        self._heartbeat = Heartbeat(
            door.ping_interval,
            door.ping_timeout,
            transport.send_ping,
            self._signs_of_life,
            socket.delivery,
            self._on_silence,
        )
        logger.debug("connected", extra={"connection": self._connection.number, "peer": self._peer})

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame, unmasked."""
        if self._closing and frame.msg_type != WSMsgType.CLOSE:
            return
        try:
            if frame.msg_type == WSMsgType.TEXT and frame.fin and self._assembler is None:
                if frame.rsv1 or frame.rsv2 or frame.rsv3:
                    raise FrameRefused(PROTOCOL_ERROR, "reserved bits are set")
                payload = frame.get_payload_as_bytes()
                check_text(payload)
                self._receive(payload)  # type: ignore[misc]  # set since on_ws_connected
            else:
                self._unusual_frame(transport, frame)
        except FrameRefused as refusal:
            self._log_refusal(refusal.code, refusal.reason)
            self.close(refusal.code, refusal.reason)

    def _unusual_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise FrameRefused(PROTOCOL_ERROR, "reserved bits are set")
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._peer_closed(transport, frame)
        elif kind == WSMsgType.BINARY:
            self._data_frame(frame, self._receive_binary)
        elif kind == WSMsgType.TEXT:
            self._data_frame(frame, self._receive)
        elif kind == WSMsgType.CONTINUATION:
            self._continuation(frame)
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())

    def _data_frame(self, frame: WSFrame, receive: Callable[[bytes], None] | None) -> None:
        """A binary frame, the first fragment of a message, or one that comes while a message is open."""
        if receive is None:
            raise FrameRefused(UNSUPPORTED_DATA, "this subprotocol has text messages only")
        if self._assembler is not None:
            self._assembler.require_closed()
        if frame.fin:
            receive(frame.get_payload_as_bytes())
        else:
            self._assembler = Assembler(self._door.max_message_bytes)
            self._assembler.start(frame.get_payload_as_bytes(), text=frame.msg_type == WSMsgType.TEXT)

    def _continuation(self, frame: WSFrame) -> None:
        assembler = self._assembler or Assembler(self._door.max_message_bytes)
        message = assembler.proceed(frame.get_payload_as_bytes(), final=bool(frame.fin))
        if message is not None:
            self._assembler = None
            receive = self._receive if assembler.text else self._receive_binary
            receive(message)  # type: ignore[misc]  # the first fragment was taken, so it is set

    def _peer_closed(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._closing:
            payload = frame.get_payload_as_bytes()  # picows has refused one of a single byte, and reasons not UTF-8
            code = int.from_bytes(payload[:2], "big") if payload else NORMAL_CLOSURE
            if is_sendable(code):
                self._say_goodbye(code)
            else:
                self._say_goodbye(PROTOCOL_ERROR, f"nobody may send the close code {code}")
        transport.disconnect()

    def frame_refused(self, code: int, reason: str) -> None:
        """picows refused a frame, and ends the connection after this.

        It looks one frame ahead: where that one is refused, the frame before it is only delivered afterwards. A close
        frame counts first nevertheless, for whatever follows it is to be ignored.
        """
        if self._closing or self._transport is None:
            return
        socket: LingeringTransport = self._transport.underlying_transport  # type: ignore[assignment]
        socket.pause_reading()  # until it is drained: picows would keep what comes of the message it refused
        handshake = self._transport.close_handshake
        if handshake is not None and handshake.recv is not None:
            code = handshake.recv.code  # type: ignore[assignment]  # any integer; 0 where there was none
            self._say_goodbye(code or NORMAL_CLOSURE)
        else:
            self._log_refusal(code, reason)
            self._say_goodbye(code, reason)

    def _log_refusal(self, code: int, reason: str) -> None:
        logger.info("frame refused", extra={"peer": self._peer, "close_code": code, "reason": reason})

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone, for whatever reason."""
        socket: LingeringTransport = transport.underlying_transport  # type: ignore[assignment]
        socket.release()
        self._door.listeners.pop(self, None)
        if self._principal is PENDING:
            self._door.pending -= 1
        self.leave()
        self._receive = None

    def leave(self) -> None:
        """Nothing can be sent any more: the hub forgets the connection, however long the socket still takes to end."""
        self._closing = True
        self._write = _drop
        if self._heartbeat is not None:
            self._heartbeat.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            logger.debug("disconnected", extra={"connection": connection.number})
            connection.disconnected()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        if self._connection is not None:
            self._connection.writing_paused()

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self._resumed += 1
        if self._connection is not None:
            self._connection.writing_resumed()

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then a close frame; cut the socket if the peer does not answer it in time."""
        if self._closing or self._transport is None:
            return
        self._say_goodbye(code, reason)
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.disconnect, False)

    def _say_goodbye(self, code: int, reason: str = "") -> None:
        """Send what waits and a close frame, behind which nothing may go."""
        assert self._transport is not None
        self._closing = True
        self._flush()
        encoded = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()  # whole characters only
        self._transport.send_close(code, encoded)  # type: ignore[arg-type]  # any integer goes
        self._write = _drop
        self._assembler = None
        # Not at once: this may be called from the middle of the connection's own work.
        asyncio.get_running_loop().call_soon(self.leave)

    def _signs_of_life(self) -> object:
        """Different after bytes have come, or after the peer has fetched so much that we could go on writing."""
        socket: LingeringTransport = self._transport.underlying_transport  # type: ignore[union-attr, assignment]
        return socket.reading.received, self._resumed

    def _on_silence(self) -> None:
        assert self._transport is not None
        logger.info("a peer does not answer pings; cutting it off", extra={"peer": self._peer})
        self._say_goodbye(GOING_AWAY, f"no sign of life within {self._door.ping_timeout:g} s of a ping")
        self._transport.disconnect(False)

    def _flush(self) -> None:
        if self._connection is not None:
            self._connection.outbox.flush()

    @property
    def principal(self) -> Principal:
        """Who is at the other end now."""
        return self._principal if self._connection is None else self._connection.principal

    def _receive_first(self, message: bytes) -> None:
        """Until the first call: only that one may open a session."""
        connection = self._connection
        assert connection is not None
        if connection.receive_first(message) and self._receive == self._receive_first:
            self._receive = connection.receive

    def adopt(self, connection: Connection) -> None:
        """See :class:`trunkline.hub.connection.Door`."""
        self._connection = connection
        self._receive = connection.receive_numbered

    def disown(self) -> None:
        """See :class:`trunkline.hub.connection.Door`."""
        self._principal = self.principal
        self._connection = None
        self._receive = _ignore

    def _receive_pending(self, message: bytes) -> None:
        """Until the peer has authenticated, it gets little room."""
        connection = self._connection
        assert connection is not None
        if len(message) > self._door.services.limits.pending_bytes:
            raise FrameRefused(MESSAGE_TOO_BIG, "authenticate before you send large messages")
        connection.receive(message)
        if connection.principal is not PENDING:
            self._principal = connection.principal
            self._door.pending -= 1
            self._receive = self._receive_first
            self._transport.underlying_transport.reading.allow(None)  # type: ignore[union-attr]

    def _too_much_before_auth(self) -> None:
        self.close(MESSAGE_TOO_BIG, "authenticate before you send large messages")

    def overflow(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        logger.warning("a peer does not read; closing", extra={"peer": self._peer})
        self.close(TRY_AGAIN_LATER, "too much is waiting for this connection; read faster")

    def pause_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        if self._transport is not None and not self._closing:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    def write(self, messages: list[bytes]) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        if len(messages) == 1:
            self._transport.send(WSMsgType.TEXT, messages[0])  # type: ignore[union-attr]
            return
        parts: list[bytes] = []
        for message in messages:
            parts.append(text_header(len(message)))
            parts.append(message)
        self._write(b"".join(parts))  # type: ignore[misc]  # set since on_ws_connected

    def write_event(self, event: Event) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        if len(event.payload) <= SMALL_EVENT:
            self.write_payload(event.payload)
            return
        frame = event.frame
        if frame is None:
            frame = event.frame = text_header(len(event.payload)) + event.payload
        self._write(frame)  # type: ignore[misc]  # set since on_ws_connected


def _ignore(_message: bytes) -> None:
    """Takes the place of the hub's side, where that goes on over a newer socket."""


def _drop(_data: bytes) -> None:
    """Takes the place of the socket's ``write`` once a close frame was sent."""


def text_header(size: int) -> bytes:
    """The header of an unmasked text frame with FIN (RFC 6455, 5.2), for writing many frames at once."""
    if size < 126:
        return bytes((0x81, size))
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")
