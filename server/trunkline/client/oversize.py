"""Messages that are too large for the hub: refused before they are sent, or, where it closed 1009, never sent again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline_protocol import hub_methods as hub
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Id

MESSAGE_TOO_BIG: Final = 1009
"""Close code of a hub that was sent more than it takes."""

SEQ_BYTES: Final = 24
"""What numbering adds to a message, at most."""

_decode: Final = msgspec.json.Decoder().decode
_NOTHING: Final = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{}}'


def too_large(size: int, limit: int) -> RpcError:
    """The error of a message that the hub would not take."""
    words = f"the message has {size} bytes, and the hub takes at most {limit}: send less, or in parts"
    data = {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES", "size": size, "max_message_bytes": limit}
    return RpcError(ErrorCode.INVALID_REQUEST, words, data=data)


def refused_as_too_large(size: int) -> RpcError:
    """The error of a message that the hub closed the connection for."""
    words = f"the message has {size} bytes, for which the hub closed the connection (1009): it takes less"
    data = {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES", "size": size}
    return RpcError(ErrorCode.INVALID_REQUEST, words, data=data)


def not_sendable(error: RpcError) -> RpcError:
    """What the caller of a served method is told whose outcome is too large."""
    return RpcError(ErrorCode.SERIALIZATION_ERROR, error.message, maybe_executed=True, data=error.data)


@dataclass(frozen=True, slots=True)
class Oversized:
    """A message that the hub refused by closing the connection.

    Attributes:
        calls: ids of this side's calls that end with it.
        served: the id of the hub's call that it was about, if it was.
        substitute: what takes its place and its number: it says that those are over.
    """

    calls: tuple[Id, ...]
    served: str | None
    substitute: bytes


def oversized(frame: bytes, error: RpcError) -> Oversized:
    """What a frame that was too large was about."""
    message = _decode(frame)
    if isinstance(message, list):
        return Oversized(tuple(member["id"] for member in message if "id" in member), None, _NOTHING)
    params = message.get("params")
    about = params.get("request_id") if isinstance(params, dict) else None
    match message.get("method"):
        case None:
            return _served(message.get("id"), error)
        case hub.STREAM_CHUNK.name:
            return _served(about, error)
        case hub.STREAM_PUSH.name:
            return _own(about)
    return _own(message["id"]) if "id" in message else Oversized((), None, _NOTHING)


def _own(request_id: Any) -> Oversized:
    return Oversized((request_id,), None, jsonrpc.encode_cancel(request_id))


def _served(request_id: Any, error: RpcError) -> Oversized:
    wire = jsonrpc.encode_error_object(not_sendable(error))
    return Oversized((), str(request_id), jsonrpc.encode_error(jsonrpc.encode_id(request_id), wire))
