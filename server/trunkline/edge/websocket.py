"""The WebSocket door: picows behind uvicorn's upgrade, on the one port.

uvicorn hands every upgrade to :class:`UpgradeProtocol`, which gives the transport to picows. From then on frames
go from the socket into picows, and whole text messages from :class:`WebSocketListener` into the hub.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in picows' stubs

from trunkline.edge.access import AccessRules, choose_subprotocol, find_token
from trunkline.edge.fragments import (
    PROTOCOL_ERROR,
    UNSUPPORTED_DATA,
    FrameRefused,
    TextAssembler,
    check_text,
)
from trunkline.hub.connection import Connection
from trunkline.hub.outbox import Flusher, Outbox
from trunkline.hub.principal import Handshake, Principal
from trunkline.hub.router import Router
from trunkline_protocol.codecs.jsonrpc import encode_error, encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError

TRY_AGAIN_LATER: Final = 1013
PING_INTERVAL: Final = 25.0
PONG_TIMEOUT: Final = 20.0
CLOSE_TIMEOUT: Final = 2.0
"""Seconds the peer gets to answer our close frame."""

logger = logging.getLogger("trunkline.edge")
_picows_logger = logging.getLogger("trunkline.edge.picows")
# uvicorn has found "upgrade" among the tokens; picows wants it alone, but Firefox sends "keep-alive, Upgrade".
_CONNECTION: Final = re.compile(rb"(\r\nconnection:)[^\r\n]*\r\n", re.IGNORECASE)

_picows_logger.setLevel(logging.CRITICAL)  # it logs every connection; we log what matters ourselves


@dataclass(slots=True)
class WebSocketDoor:
    """Everything the listeners of one hub share."""

    router: Router
    access: AccessRules
    max_message_bytes: int
    max_batch: int
    outbox_bytes: int
    flusher: Flusher
    listeners: set[WebSocketListener]

    def close_all(self, code: int, reason: str) -> None:
        """Begin the close handshake on every connection."""
        for listener in tuple(self.listeners):
            listener.close(code, reason)

    def protocol(self, **_uvicorn: Any) -> UpgradeProtocol:
        """What uvicorn calls for each upgrade (``Config.ws``)."""
        return UpgradeProtocol(self)

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
            principal = self.access.admit(handshake)
            subprotocol = choose_subprotocol(headers)
        except RpcError as error:
            logger.warning("upgrade refused", extra={"peer": peer, "reason": error.message})
            return _refusal(error)
        except Exception:
            logger.exception("the authenticate hook failed")
            return _refusal(RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection"))
        extra = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
        response = WSUpgradeResponse.create_101_response(extra)
        return WSUpgradeResponseWithListener(response, WebSocketListener(self, principal, peer))


def _refusal(error: RpcError) -> WSUpgradeResponseWithListener:
    body = encode_error(b"null", encode_error_object(error))
    status = 403 if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN) else error.row.http_status
    response = WSUpgradeResponse.create_error_response(
        HTTPStatus(status), body, {"Content-Type": "application/json", "Sec-WebSocket-Version": "13"}
    )
    return WSUpgradeResponseWithListener(response, None)


class WebSocketListener(WSListener):
    """One connection's frames: control frames, fragments, UTF-8, sizes; whole messages go to the hub."""

    def __init__(self, door: WebSocketDoor, principal: Principal, peer: str) -> None:
        self._door = door
        self._principal = principal
        self._peer = peer
        self._transport: WSTransport | None = None
        self._write: Callable[[bytes], None] | None = None
        self._connection: Connection | None = None
        self._receive: Callable[[bytes], None] | None = None
        self._assembler: TextAssembler | None = None
        self._closing = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The upgrade is done."""
        door = self._door
        self._transport = transport
        self._write = transport.underlying_transport.write
        outbox = Outbox(door.flusher, self._send, self._overflow, door.outbox_bytes)
        self._connection = Connection(door.router, outbox, self._principal, self._peer, door.max_batch)
        self._receive = self._connection.receive
        door.listeners.add(self)
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
            self.close(refusal.code, refusal.reason)

    def _unusual_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise FrameRefused(PROTOCOL_ERROR, "reserved bits are set")
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._peer_closed(transport, frame)
        elif kind == WSMsgType.BINARY:
            raise FrameRefused(UNSUPPORTED_DATA, "this subprotocol has text messages only")
        elif kind == WSMsgType.TEXT:
            self._text_while_assembling(frame)
        elif kind == WSMsgType.CONTINUATION:
            self._continuation(frame)
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())

    def _text_while_assembling(self, frame: WSFrame) -> None:
        if self._assembler is None:
            self._assembler = TextAssembler(self._door.max_message_bytes)
        self._assembler.start(frame.get_payload_as_bytes())

    def _continuation(self, frame: WSFrame) -> None:
        assembler = self._assembler or TextAssembler(self._door.max_message_bytes)
        message = assembler.proceed(frame.get_payload_as_bytes(), final=bool(frame.fin))
        if message is not None:
            self._assembler = None
            self._receive(message)  # type: ignore[misc]  # set since on_ws_connected

    def _peer_closed(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._closing:
            self._closing = True
            self._flush()
            code = frame.get_close_code()
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
        transport.disconnect()

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """The socket is gone, for whatever reason."""
        self._door.listeners.discard(self)
        if self._connection is not None:
            logger.debug("disconnected", extra={"connection": self._connection.number})
            self._connection.disconnected()
        self._receive = None

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        if self._connection is not None:
            self._connection.outbox.pause()

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        if self._connection is not None:
            self._connection.outbox.resume()

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then a close frame; cut the socket if the peer does not answer it in time."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._flush()
        self._transport.send_close(code, reason.encode()[:120])  # type: ignore[arg-type]  # any integer goes
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.disconnect, False)

    def _flush(self) -> None:
        if self._connection is not None:
            self._connection.outbox.flush()

    def _overflow(self) -> None:
        logger.warning("a peer does not read; closing", extra={"peer": self._peer})
        self.close(TRY_AGAIN_LATER, "too much is waiting for this connection; read faster")

    def _send(self, messages: list[bytes]) -> None:
        if len(messages) == 1:
            self._transport.send(WSMsgType.TEXT, messages[0])  # type: ignore[union-attr]
            return
        parts: list[bytes] = []
        for message in messages:
            parts.append(text_header(len(message)))
            parts.append(message)
        self._write(b"".join(parts))  # type: ignore[misc]  # set since on_ws_connected


def text_header(size: int) -> bytes:
    """The header of an unmasked text frame with FIN (RFC 6455, 5.2), for writing many frames at once."""
    if size < 126:
        return bytes((0x81, size))
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


class UpgradeProtocol(asyncio.Protocol):
    """Takes an upgrade from uvicorn and hands the transport to picows.

    uvicorn calls ``connection_made``, then ``data_received`` with the request, and sets this object as the
    transport's protocol right after; picows' protocol is therefore set from ``call_soon``, and whatever arrives in
    between is passed on.
    """

    def __init__(self, door: WebSocketDoor) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._picows: WSProtocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by uvicorn."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is a Transport by shape only
        peername = transport.get_extra_info("peername")
        peer = f"{peername[0]}:{peername[1]}" if isinstance(peername, tuple) else "unix"
        self._picows = picows_protocol(lambda request: self._door.accept(request, peer), self._door.max_message_bytes)
        self._picows.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """The upgrade request, and whatever follows before picows reads the socket itself."""
        assert self._transport is not None
        feed(self._picows, _CONNECTION.sub(b"\\1Upgrade\\r\\n", data, count=1))
        asyncio.get_running_loop().call_soon(self._take_over)

    def _take_over(self) -> None:
        if self._transport is not None and self._picows is not None:
            self._transport.set_protocol(self._picows)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer left before picows took over."""
        if self._picows is not None:
            self._picows.connection_lost(exc)

    def pause_writing(self) -> None:
        """Nothing of ours was written yet."""

    def resume_writing(self) -> None:
        """Nothing of ours was written yet."""


def picows_protocol(listener_factory: Callable[[WSUpgradeRequest], Any], max_frame_size: int) -> WSProtocol:
    """picows' server-side protocol. The constructor is picows' own business: a contract test holds it."""
    return WSProtocol(
        None,  # host and port: client side only
        None,  # path: client side only
        False,  # is_client_side
        listener_factory,
        _picows_logger,
        True,  # disconnect_on_exception
        5,  # websocket_handshake_timeout, seconds
        True,  # enable_auto_ping
        PING_INTERVAL,
        PONG_TIMEOUT,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # enable_auto_pong: it would answer pings with reserved bits set
        max_frame_size,
        None,  # extra_headers: client side only
        2048,  # read_buffer_init_size, grows as needed
    )


def feed(protocol: WSProtocol, data: bytes) -> None:
    """Give bytes to picows as if they came from the socket."""
    view = memoryview(data)
    while view:
        buffer = protocol.get_buffer(len(view))
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]
