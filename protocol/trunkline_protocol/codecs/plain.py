"""JSON-RPC itself, a message a frame, for peers that have frames and no WebSocket around them."""

from __future__ import annotations

from typing import Final, Protocol

from trunkline_protocol.codecs.dialect import Dialect, Frame, Received
from trunkline_protocol.codecs.jsonrpc import encode_error, encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError


class FramedDialect(Dialect, Protocol):
    """A dialect for pipes and Unix sockets: there is no upgrade, so it may begin with a word of its own."""

    @property
    def kept(self) -> int:
        """Bytes of messages that have come in part, in several frames."""

    def greet(self, causes: list[str]) -> list[Frame]:
        """What a peer is told once the hub is ready for it.

        Args:
            causes: what keeps the hub from serving, in words; empty where nothing does.
        """


def utf8_error(frame: Frame) -> RpcError | None:
    """What is wrong with a frame that is no UTF-8 (-32700)."""
    try:
        frame.payload.decode()
    except UnicodeDecodeError as error:
        return RpcError(ErrorCode.PARSE_ERROR, f"not valid UTF-8 at byte {error.start}")
    return None


class PlainDialect:
    """See the file."""

    kept: Final = 0

    def greet(self, _causes: list[str]) -> list[Frame]:
        """Nothing: a plain JSON-RPC peer speaks first."""
        return []

    def receive(self, frame: Frame) -> Received:
        """See :class:`trunkline_protocol.codecs.dialect.Dialect`."""
        if not frame.payload.isascii() and (error := utf8_error(frame)) is not None:
            return Received(to_peer=tuple(self.refuse(error)))
        return Received(to_hub=(frame.payload,))

    def send(self, message: bytes) -> list[Frame]:
        """See :class:`trunkline_protocol.codecs.dialect.Dialect`."""
        return [Frame(message)]

    def refuse(self, error: RpcError) -> list[Frame]:
        """An error that answers nothing: its id is null."""
        return [Frame(encode_error(b"null", encode_error_object(error)))]
