"""The same messages as MessagePack, in binary frames: subprotocol ``trunkline.v1+msgpack``.

A map per message, an array per batch; ``bin`` carries binary data that JSON needs base64 for. What MessagePack has and
JSON has not (extension types, keys that are no text, NaN) is refused as malformed text is on the other door.

The hub reads params in no other place. Here they have to be unpacked, so of a large message the envelope is read first:
what the hub refuses anyway is not, nor what holds too many values (:mod:`trunkline_protocol.values`).
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline_protocol.binary import MARK, to_member, unwrapped
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.answers import is_hubs_id
from trunkline_protocol.codecs.dialect import Deferred, Dialect, DialectViolation, Frame, Received
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import RawOrUnset
from trunkline_protocol.values import SMALL, json_is_too_much, msgpack_is_too_much, too_much

SUBPROTOCOL: Final = "trunkline.v1+msgpack"
UNSUPPORTED_DATA: Final = 1003
EVENT_WORTH_KEEPING: Final = 1024
_EVENT: Final = b'{"jsonrpc":"2.0","method":"event",'
_pack: Final = msgspec.msgpack.Encoder().encode
_parse: Final = msgspec.json.Decoder().decode
_write: Final = msgspec.json.Encoder().encode


def _no_extension(code: int, _data: memoryview) -> Any:
    raise ValueError(f"extension type {code} has no JSON form")


_unpack: Final = msgspec.msgpack.Decoder(ext_hook=_no_extension).decode
_UNREADABLE: Final = (msgspec.DecodeError, msgspec.EncodeError, ValueError, TypeError, RecursionError)


class _Envelope(msgspec.Struct, omit_defaults=True):
    """The members of a large message that are read before its params are."""

    jsonrpc: RawOrUnset = msgspec.UNSET
    method: RawOrUnset = msgspec.UNSET
    id: RawOrUnset = msgspec.UNSET
    seq: RawOrUnset = msgspec.UNSET
    metadata: RawOrUnset = msgspec.UNSET
    params: RawOrUnset = msgspec.UNSET
    result: RawOrUnset = msgspec.UNSET


_envelope: Final = msgspec.msgpack.Decoder(_Envelope).decode


class MessagePackDialect(Dialect):
    """Translates MessagePack. Its only state is the last event translated: many connections get the same one."""

    _event: tuple[bytes, list[Frame]] = (b"", [])

    @override
    def receive(self, frame: Frame) -> Received:
        if not frame.binary:
            raise DialectViolation(UNSUPPORTED_DATA, f"{SUBPROTOCOL} has binary messages only")
        try:
            return _receive_large(frame.payload) if len(frame.payload) > SMALL else Received((_to_json(frame.payload),))
        except (RpcError, *_UNREADABLE) as error:
            refusal = error if isinstance(error, RpcError) else _unreadable(error)
            if (answer := _failed_answer(frame.payload, refusal.message)) is not None:
                return Received((answer,))
            return Received(to_peer=tuple(self.refuse(refusal)))

    @override
    def send(self, message: bytes) -> list[Frame]:
        if len(message) > EVENT_WORTH_KEEPING and message.startswith(_EVENT):
            known, frames = MessagePackDialect._event
            if known is not message:
                frames = _from_json(message)
                MessagePackDialect._event = message, frames
            return frames
        return _from_json(message)

    @override
    def refuse(self, error: RpcError) -> list[Frame]:
        return self.send(jsonrpc.encode_error(b"null", jsonrpc.encode_error_object(error)))


class _Chunk(msgspec.Struct):
    request_id: str = ""


class _About(msgspec.Struct):
    """The members that tell which request of the hub's a message is about."""

    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()
    seq: int | None = None


def _failed_answer(payload: bytes, words: str) -> bytes | None:
    """An error response in place of an invalid response to, or chunk for, a request of the hub's; else None."""
    try:
        message = msgspec.msgpack.decode(payload, type=_About)
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


def _unreadable(error: Exception) -> RpcError:
    fault = "it is nested too deeply" if isinstance(error, RecursionError) else error
    return RpcError(ErrorCode.PARSE_ERROR, f"not valid: {fault}")


def _receive_large(payload: bytes) -> Received:
    try:
        envelope = _envelope(payload)
    except msgspec.ValidationError:
        envelope = _Envelope()  # a batch, or no message at all
    method = None if isinstance(envelope.method, msgspec.UnsetType) else _unpack(envelope.method)
    if isinstance(method, str) and method != "stream_chunk":
        return Received(deferred=Deferred(method, _head(envelope), functools.partial(_translate, payload, method)))
    if not msgpack_is_too_much(payload):
        return Received((_to_json(payload),))
    if method is None and envelope.result is not msgspec.UNSET:
        # It answers a call of the hub's, whose caller has to be told.
        error = too_much("the result", ErrorCode.SERIALIZATION_ERROR).to_wire()
        return Received((_write(msgspec.json.decode(_head(envelope)) | {"error": error}),))
    raise too_much("the message", ErrorCode.INVALID_REQUEST)


def _head(envelope: _Envelope) -> bytes:
    """The members that say whom to answer, and the number of the message, as JSON."""
    members = {
        name: _unpack(raw)
        for name in ("jsonrpc", "method", "id", "seq", "metadata")
        if not isinstance(raw := getattr(envelope, name), msgspec.UnsetType) and len(memoryview(raw)) <= SMALL
    }
    return _write(_plain(members))


def _translate(payload: bytes, method: str) -> bytes:
    """The whole request.

    Raises:
        RpcError: -32602, it holds too many values; -32700, it is not valid.
    """
    if msgpack_is_too_much(payload):
        raise too_much(f"{method:.200}: params")
    try:
        return _to_json(payload)
    except _UNREADABLE as error:
        raise _unreadable(error) from error


def _from_json(message: bytes) -> list[Frame]:
    if json_is_too_much(message) and (answer := _Answer.read(message)) is not None:
        error = too_much("the result, as MessagePack,", ErrorCode.SERIALIZATION_ERROR)
        error.maybe_executed = True
        message = jsonrpc.encode_error(answer, jsonrpc.encode_error_object(error))
    value = _parse(message)
    if MARK in message:
        value = unwrapped(value)
    try:
        return [Frame(_pack(value), binary=True)]
    except OverflowError:
        return [Frame(_pack(_with_doubles(value)), binary=True)]


def _with_doubles(value: Any) -> Any:
    """The value with doubles for integers that MessagePack has no type for: those beyond 64 bits."""
    if isinstance(value, dict):
        return {key: _with_doubles(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_with_doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**64 else value


class _Answer(msgspec.Struct):
    id: msgspec.Raw
    result: msgspec.Raw

    @classmethod
    def read(cls, message: bytes) -> bytes | None:
        """The id of a reply that is a result; None for any other message."""
        try:
            return bytes(msgspec.json.decode(message, type=cls).id)
        except msgspec.DecodeError:
            return None


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
