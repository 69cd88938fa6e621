"""The same messages as MessagePack, in binary frames: subprotocol ``trunkline.v1+msgpack``.

A map per message, an array per batch; ``bin`` carries binary data that JSON needs base64 for. What MessagePack has and
JSON has not (extension types, keys that are no text, NaN) is refused as malformed text is on the other door.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from trunkline_protocol.binary import MARK, to_member, unwrapped
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.answers import is_hubs_id
from trunkline_protocol.codecs.dialect import DialectViolation, Frame, Received
from trunkline_protocol.errors import ErrorCode, RpcError

SUBPROTOCOL: Final = "trunkline.v1+msgpack"
UNSUPPORTED_DATA: Final = 1003
_pack: Final = msgspec.msgpack.Encoder().encode
_parse: Final = msgspec.json.Decoder().decode
_write: Final = msgspec.json.Encoder().encode


def _no_extension(code: int, _data: memoryview) -> Any:
    raise ValueError(f"extension type {code} has no JSON form")


_unpack: Final = msgspec.msgpack.Decoder(ext_hook=_no_extension).decode


class MessagePackDialect:
    """See the file. It has no state."""

    def receive(self, frame: Frame) -> Received:
        """See :class:`trunkline_protocol.codecs.dialect.Dialect`."""
        if not frame.binary:
            raise DialectViolation(UNSUPPORTED_DATA, f"{SUBPROTOCOL} has binary messages only")
        try:
            return Received((_to_json(frame.payload),))
        except (msgspec.DecodeError, msgspec.EncodeError, ValueError, TypeError, RecursionError) as error:
            fault = "it is nested too deeply" if isinstance(error, RecursionError) else error
            if (answer := _failed_answer(frame.payload, f"not valid: {fault}")) is not None:
                return Received((answer,))
            return Received(to_peer=tuple(self.refuse(RpcError(ErrorCode.PARSE_ERROR, f"not valid: {fault}"))))

    def send(self, message: bytes) -> list[Frame]:
        """See :class:`trunkline_protocol.codecs.dialect.Dialect`."""
        value = _parse(message)
        if MARK in message:
            value = unwrapped(value)
        return [Frame(_pack(value), binary=True)]

    def refuse(self, error: RpcError) -> list[Frame]:
        """See :class:`trunkline_protocol.codecs.dialect.Dialect`."""
        return self.send(jsonrpc.encode_error(b"null", jsonrpc.encode_error_object(error)))


class _Chunk(msgspec.Struct):
    request_id: str = ""


class _Envelope(msgspec.Struct):
    """What tells which request of the hub's a message is about."""

    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()
    seq: int | None = None


def _failed_answer(payload: bytes, words: str) -> bytes | None:
    """What was to answer a request of the hub's, or was a chunk for it, as an error; None if it was neither."""
    try:
        message = msgspec.msgpack.decode(payload, type=_Envelope)
        about = message.id if message.method is None else None
        if message.method == "stream_chunk":
            about = msgspec.msgpack.decode(message.params, type=_Chunk).request_id
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not is_hubs_id(about):
        return None
    error = RpcError(ErrorCode.SERIALIZATION_ERROR, words, maybe_executed=True).to_wire()
    number = {} if message.seq is None else {"seq": message.seq}
    return _write({**number, "jsonrpc": "2.0", "id": about, "error": error})


def _to_json(payload: bytes) -> bytes:
    value = _plain(_unpack(payload))
    message = _write(value)
    if b"null" in message and not _is_finite(value):
        raise ValueError("a float is not finite")  # the encoder has written null instead
    return message


def _plain(value: Any) -> Any:
    """The value with its binary data in the JSON form.

    Raises:
        ValueError: something in it has no JSON form; the encoder would write another one without a word.
    """
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise ValueError(f"a key is of type {type(key).__name__}, not text")
        return {key: member if type(member) in _SCALARS else _plain(member) for key, member in value.items()}
    if kind is list:
        # Vectors are lists of floats: one look at all types is a lot quicker than one call an item.
        return value if _SCALARS.issuperset(map(type, value)) else [_plain(item) for item in value]
    if kind is bytes:
        return to_member(value)
    if kind in _SCALARS:
        return value
    raise ValueError(f"{kind.__name__} has no JSON form")


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
