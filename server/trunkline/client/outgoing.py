"""Messages to the hub: their JSON, the queue they wait in, and the errors of those that are too large. Pure."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import msgspec
import orjson
from typing_extensions import override

from trunkline_protocol import hub_methods as hub
from trunkline_protocol.arrays import as_plain
from trunkline_protocol.binary import to_member
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.depth import MAX_DEPTH, is_too_deep
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Id

MESSAGE_TOO_BIG: Final = 1009
"""Close code of a hub that received a message above its limit."""

SEQ_BYTES: Final = 24
"""Bytes that a sequence number adds to a message, at most."""

_decode: Final = msgspec.json.Decoder().decode
_NOTHING: Final = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{}}'

logger = logging.getLogger("trunkline.client")


def encode_exactly(value: Any, what: str, levels: int = MAX_DEPTH) -> bytes:
    """A value as JSON, without silent losses; bytes and arrays in their forms (SPEC.md, Binary data).

    Args:
        what: names the value, for the error.
        levels: how deep the value may be nested.

    Raises:
        ValueError: the value contains what JSON cannot represent, NaN, an infinity or an integer beyond 2**53 (which
            JavaScript peers could not read), or is nested deeper than allowed.
    """
    try:
        data = orjson.dumps(value, default=_as_json, option=orjson.OPT_STRICT_INTEGER)
    except TypeError as error:
        where = ".".join(_unsendable(value, set()) or ())
        raise ValueError(f"{what} cannot be sent: {where}{where and ': '}{error}") from error
    if is_too_deep(data, levels):
        raise ValueError(f"{what} cannot be sent: nested deeper than {min(levels, MAX_DEPTH)} levels")
    if b"null" in data and not _is_finite(value):
        raise ValueError(f"{what} cannot be sent: a float is not finite")
    return data


def _unsendable(value: Any, seen: set[int]) -> tuple[str, ...] | None:
    """The place of what JSON cannot represent, as the names and numbers that lead there; None where there is none.

    Args:
        seen: ids of the containers that were looked into: one may contain itself.
    """
    if id(value) in seen:
        return None
    members: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        if strange := next((name for name in value if not isinstance(name, str)), None):
            return (repr(strange),)
        members = value.items()
    elif isinstance(value, (list, tuple)):
        members = enumerate(value)
    else:
        try:
            orjson.dumps(value, default=_as_json, option=orjson.OPT_STRICT_INTEGER)
        except TypeError:
            return ()
    if isinstance(value, (dict, list, tuple)):
        seen.add(id(value))
    for name, member in members:
        if (found := _unsendable(member, seen)) is not None:
            return (str(name), *found)
    return None


def encode_body(method: str, params: Any) -> bytes:
    """The members ``method`` and, unless None, ``params`` of a message, as JSON without braces.

    Raises:
        ValueError: the params cannot be sent.
    """
    body = {"method": method} if params is None else {"method": method, "params": params}
    return encode_exactly(body, f"params of {method}", MAX_DEPTH + 1)[1:-1]


def _as_json(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return to_member(value)
    if (plain := as_plain(value)) is not None:
        return plain
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
    plain = as_plain(value)
    return plain is None or _is_finite(plain)


class Outgoing:
    """One message to the hub.

    Attributes:
        body: JSON, an object.
        is_numbered: whether a session numbers the message.
        size: in bytes, as counted while the message waits.
    """

    __slots__ = ("body", "is_numbered", "size")

    def __init__(self, body: bytes, *, is_numbered: bool = True) -> None:
        self.body = body
        self.is_numbered = is_numbered
        self.size = len(body)

    def frame(self, now: float) -> bytes:
        """The message to write at this time of the loop's clock."""
        return self.body

    def mark_written(self, epoch: str | None) -> None:
        """Note that the message is handed to a socket: from now on the hub with this epoch of keys may receive it."""

    def refused(self, error: RpcError) -> None:
        """Give the message up: it exceeds the limit of the hub that is connected now."""
        logger.warning("a message was not sent: %s", error)

    @property
    def survives(self) -> bool:
        """Whether the message may be sent to a hub that knows nothing of the messages before it."""
        return False


class Notice(Outgoing):
    """A notification of the user, which may be sent to any hub."""

    __slots__ = ()

    @property
    @override
    def survives(self) -> bool:
        return True


class SendQueue:
    """Messages that were not written to a socket yet.

    Args:
        max_frames: how many may wait for a connection.
        max_bytes: how many bytes of them may wait.
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
        """Why one more message cannot wait for a connection, naming the limit; None if it can.

        Args:
            size: of the message, in bytes.
            kept_frames: messages that were written and may have to be written again; they count as well.
            kept_bytes: bytes of those.
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
        """Append a message."""
        self._items[item] = None
        self.waiting_bytes += item.size

    def add_first(self, items: Sequence[Outgoing]) -> None:
        """Put messages at the front, in their order."""
        for item in reversed(items):
            self.add(item)
            self._items.move_to_end(item, last=False)

    def remove(self, item: Outgoing) -> bool:
        """Remove a message; returns whether it was in the queue."""
        if item not in self._items:
            return False
        del self._items[item]
        self.waiting_bytes -= item.size
        return True

    def next(self) -> Outgoing:
        """Remove and return the oldest message.

        Raises:
            KeyError: the queue is empty.
        """
        item, _ = self._items.popitem(last=False)
        self.waiting_bytes -= item.size
        return item

    def take_all(self) -> list[Outgoing]:
        """Remove and return all messages, the oldest first."""
        items = list(self._items)
        self._items.clear()
        self.waiting_bytes = 0
        return items

    def drop_stale(self) -> None:
        """Drop the messages that make no sense to another hub: the session is over."""
        for item in [item for item in self._items if not item.survives]:
            self.remove(item)


def too_large(size: int, limit: int) -> RpcError:
    """The error of a message above the hub's limit, which was not sent."""
    words = f"the message has {size} bytes, and the hub takes at most {limit}: send less, or in parts"
    data = {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES", "size": size, "max_message_bytes": limit}
    return RpcError(ErrorCode.INVALID_REQUEST, words, data=data)


def refused_as_too_large(size: int) -> RpcError:
    """The error of a message for which the hub closed the connection."""
    words = f"the message has {size} bytes, for which the hub closed the connection (1009): its limit is lower"
    data = {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES", "size": size}
    return RpcError(ErrorCode.INVALID_REQUEST, words, data=data)


def not_sendable(error: RpcError) -> RpcError:
    """The error that the caller of a served method gets where the outcome is too large."""
    return RpcError(ErrorCode.SERIALIZATION_ERROR, error.message, maybe_executed=True, data=error.data)


@dataclass(frozen=True, slots=True)
class Oversized:
    """A message for which the hub closed the connection, and how to replace it.

    Attributes:
        calls: ids of this client's calls that end with the message.
        served: the id of the hub's call that the message was about; None for others.
        substitute: the message that takes its place and its number, and ends those calls at the hub.
    """

    calls: tuple[Id, ...]
    served: str | None
    substitute: bytes


def oversized(frame: bytes, error: RpcError) -> Oversized:
    """The calls that a message above the hub's limit was about, and its substitute."""
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
