"""Messages on their way to the hub: their JSON, the queue they wait in, and what is too large. Pure."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import msgspec
import orjson

from trunkline_protocol import hub_methods as hub
from trunkline_protocol.binary import to_member
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.depth import MAX_DEPTH, is_too_deep
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Id

MESSAGE_TOO_BIG: Final = 1009
"""Close code of a hub that was sent more than it takes."""

SEQ_BYTES: Final = 24
"""What numbering adds to a message, at most."""

_decode: Final = msgspec.json.Decoder().decode
_NOTHING: Final = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{}}'

logger = logging.getLogger("trunkline.client")


def encode_exactly(value: Any, what: str, levels: int = MAX_DEPTH) -> bytes:
    """JSON without silent losses, or a clear error; bytes in the form of :mod:`trunkline_protocol.binary`.

    Args:
        what: what it is, for the error.
        levels: how deep it may be nested.

    Raises:
        ValueError: something JSON has no form for, NaN, an infinity, an integer beyond 2**53, which JavaScript
            peers could not read, or more levels than the protocol has.
    """
    try:
        data = orjson.dumps(value, default=_as_json, option=orjson.OPT_STRICT_INTEGER)
    except TypeError as error:
        raise ValueError(f"{what} cannot be sent: {error}") from error
    if is_too_deep(data, levels):
        raise ValueError(f"{what} cannot be sent: nested deeper than {min(levels, MAX_DEPTH)} levels")
    if b"null" in data and not _is_finite(value):
        raise ValueError(f"{what} cannot be sent: a float is not finite")
    return data


def encode_body(method: str, params: Any) -> bytes:
    """The members ``method`` and, unless it is None, ``params`` of a message, without braces.

    Raises:
        ValueError: the params cannot be sent.
    """
    body = {"method": method} if params is None else {"method": method, "params": params}
    return encode_exactly(body, f"params of {method}", MAX_DEPTH + 1)[1:-1]


def _as_json(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return to_member(value)
    raise TypeError(f"type {type(value).__module__}.{type(value).__qualname__}")


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0.0
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_finite(getattr(value, field.name)) for field in fields(value))
    return True


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


class SendQueue:
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
