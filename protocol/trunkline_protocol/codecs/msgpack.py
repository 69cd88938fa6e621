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
