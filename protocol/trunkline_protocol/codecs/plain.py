"""JSON-RPC itself, a message a frame, for peers that have frames and no WebSocket around them."""

from __future__ import annotations

from typing import Final, Protocol

from typing_extensions import override

from trunkline_protocol.codecs.dialect import Dialect, Frame, Received
from trunkline_protocol.codecs.jsonrpc import encode_error, encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError


class FramedDialect(Dialect, Protocol):
    """A dialect for pipes and Unix sockets. There is no upgrade, so the hub may speak first."""

    @property
    def kept(self) -> int:
        """Bytes of messages in several frames that are not complete yet."""

    def greet(self, causes: list[str]) -> list[Frame]:
        """The frames that a peer gets once the hub is ready for it; often none.

        Args:
            causes: what keeps the hub from serving, in words; empty where nothing does.
        """


def utf8_error(frame: Frame) -> RpcError | None:
    """The error (-32700) for a frame that is not UTF-8; None for one that is."""
    try:
        frame.payload.decode()
    except UnicodeDecodeError as error:
        return RpcError(ErrorCode.PARSE_ERROR, f"not valid UTF-8 at byte {error.start}")
    return None


class PlainDialect(FramedDialect):
    """Passes JSON-RPC messages on as they are."""

    kept: Final = 0

    @override
    def greet(self, causes: list[str]) -> list[Frame]:
        return []

    @override
    def receive(self, frame: Frame) -> Received:
        if not frame.payload.isascii() and (error := utf8_error(frame)) is not None:
            return Received(to_peer=tuple(self.refuse(error)))
        return Received(to_hub=(frame.payload,))

    @override
    def send(self, message: bytes) -> list[Frame]:
        return [Frame(message)]

    @override
    def refuse(self, error: RpcError) -> list[Frame]:
        return [Frame(encode_error(b"null", encode_error_object(error)))]
