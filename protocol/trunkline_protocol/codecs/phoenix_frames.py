"""The frames of Phoenix Channels V2: text ``[join_ref, ref, topic, event, payload]``, binary with a header of sizes.

Payloads are not parsed: of a text frame they stay the bytes they came as, binary ones become ``{"$bytes": base64}``,
the hub's JSON form of binary data.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.codecs.phoenix_names import CONTROL, TOPIC
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import UNREADABLE
from trunkline_protocol.topics import MAX_TOPIC_CHARS
from trunkline_protocol.values import has_too_many_members, too_much

Ref = str | int | None
"""Clients number with strings; an integer is echoed as the integer it was."""

MAX_REF_CHARS: Final = 255
MAX_CHANNEL_CHARS: Final = len(TOPIC) + MAX_TOPIC_CHARS
MAX_FIELD_BYTES: Final = 255
"""Of each field in the header of a binary frame."""

SHALLOW: Final = 400
"""So many brackets cannot be nested too deeply for anybody, nor can a payload of as many bytes."""
DEPTH_MARGIN: Final = 64
"""By how much a payload must be less deep than this stack could bear: the hub reads it again, further up."""

PUSH_KIND: Final = 0
REPLY_KIND: Final = 1
BROADCAST_KIND: Final = 2
USER_PUSH_KIND: Final = 3
"""Of Supabase's realtime-js, which sends broadcasts so; it takes them as text, too."""
HEADER_BYTES: Final = 5
USER_HEADER_BYTES: Final = 7
JSON_ENCODING: Final = 1

Status = Literal["ok", "error"]


@dataclass(frozen=True, slots=True)
class PhoenixMessage:
    """A message of a peer.

    Attributes:
        payload: JSON.
        is_binary: it came in a binary frame; ``payload`` is ``{"$bytes": base64}``.
    """

    join_ref: Ref
    ref: Ref
    topic: str
    event: str
    payload: bytes
    is_binary: bool = False


class BadFrame(Exception):
    """A frame that cannot be acted on, with as much as is known of whom to answer."""

    def __init__(self, error: RpcError, join_ref: Ref = None, ref: Ref = None, topic: str = CONTROL) -> None:
        super().__init__(error.message)
        self.error = error
        self.join_ref = join_ref
        self.ref = ref
        self.topic = topic


_RefField = Annotated[str, msgspec.Meta(max_length=MAX_REF_CHARS)] | int | None
_TopicField = Annotated[str, msgspec.Meta(max_length=MAX_CHANNEL_CHARS)]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    join_ref: _RefField
    ref: _RefField
    topic: _TopicField
    event: str
    payload: msgspec.Raw


class _Begun(msgspec.Struct, array_like=True):
    """The first members of a message, whatever follows."""

    join_ref: msgspec.Raw
    ref: msgspec.Raw
    topic: msgspec.Raw


class _Binary(msgspec.Struct, forbid_unknown_fields=True):
    """``{"$bytes": base64}`` and nothing else."""

    data: bytes = msgspec.field(name="$bytes")


_wire_decoder: Final = msgspec.json.Decoder(_Wire)
_begun_decoder: Final = msgspec.json.Decoder(_Begun)
_ref_decoder: Final = msgspec.json.Decoder(_RefField)
_topic_decoder: Final = msgspec.json.Decoder(_TopicField)
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)
_binary_decoder: Final = msgspec.json.Decoder(_Binary)
_encoder: Final = msgspec.json.Encoder()


def decode(frame: Frame) -> PhoenixMessage:
    """Read a frame.

    Raises:
        BadFrame: -32700 for what is no JSON, -32600 for what is no message.
    """
    return _decode_binary(frame.payload) if frame.binary else _decode_text(frame.payload)


def _decode_text(data: bytes) -> PhoenixMessage:
    try:
        wire = _wire_decoder.decode(data)
    except UNREADABLE as error:
        raise _bad_text(data, error) from error
    message = PhoenixMessage(wire.join_ref, wire.ref, wire.topic, wire.event, bytes(wire.payload))
    _check_payload(message)
    return message


def _check_payload(message: PhoenixMessage) -> None:
    """Refuse a payload that nobody could read."""
    error = _too_deep() if _is_too_deep(message.payload) else None
    if error is None and has_too_many_members(message.payload):
        error = too_much("the payload", ErrorCode.INVALID_REQUEST)
    if error is not None:
        raise BadFrame(error, message.join_ref, message.ref, message.topic)


def _bad_text(data: bytes, error: Exception) -> BadFrame:
    """Find out whom to answer, where that can still be read."""
    try:
        _raw_decoder.decode(data)
    except RecursionError:
        return BadFrame(_too_deep())
    except UNREADABLE as worse:
        return BadFrame(RpcError(ErrorCode.PARSE_ERROR, f"not valid JSON: {worse}"))
    refusal = RpcError(
        ErrorCode.INVALID_REQUEST, f"a message is [join_ref, ref, topic, event, payload]; this one is not: {error}"
    )
    try:
        begun = _begun_decoder.decode(data)
        refs = (_ref_decoder.decode(begun.join_ref), _ref_decoder.decode(begun.ref))
        return BadFrame(refusal, *refs, _topic_decoder.decode(begun.topic))
    except (*UNREADABLE, ValueError):
        return BadFrame(refusal)


def _too_deep() -> RpcError:
    return RpcError(ErrorCode.PARSE_ERROR, "the JSON is nested too deeply")


def _is_too_deep(payload: bytes) -> bool:
    if len(payload) <= SHALLOW or payload.count(b"[") + payload.count(b"{") <= SHALLOW:
        return False
    try:
        _raw_decoder.decode(b"%b%b%b" % (b"[" * DEPTH_MARGIN, payload, b"]" * DEPTH_MARGIN))
    except RecursionError:
        return True
    return False


def _decode_binary(data: bytes) -> PhoenixMessage:
    """``00 |join_ref| |ref| |topic| |event|`` and the fields, each length in a byte; the payload is the rest."""
    if len(data) >= USER_HEADER_BYTES and data[0] == USER_PUSH_KIND:
        return _decode_user_push(data)
    if len(data) < HEADER_BYTES or data[0] != PUSH_KIND:
        raise BadFrame(RpcError(ErrorCode.INVALID_REQUEST, "of binary messages a client may send pushes (kind 0)"))
    (join_ref, ref, topic, event), at = _fields(data, data[1:HEADER_BYTES], HEADER_BYTES)
    payload = b'{"$bytes":"%b"}' % base64.b64encode(data[at:])
    return PhoenixMessage(join_ref or None, ref or None, topic, event, payload, is_binary=True)


def _decode_user_push(data: bytes) -> PhoenixMessage:
    """``03 |join_ref| |ref| |topic| |event| |metadata| encoding`` and the fields: a broadcast of realtime-js.

    As text it is the event ``broadcast`` with ``{type, event, payload}``; metadata is for Supabase's server.
    """
    (join_ref, ref, topic, event, _), at = _fields(data, data[1 : USER_HEADER_BYTES - 1], USER_HEADER_BYTES)
    is_json = data[USER_HEADER_BYTES - 1] == JSON_ENCODING
    payload = data[at:] if is_json else b'{"$bytes":"%b"}' % base64.b64encode(data[at:])
    try:
        payload = bytes(_raw_decoder.decode(payload))
    except (*UNREADABLE, RecursionError) as error:
        refusal = RpcError(ErrorCode.PARSE_ERROR, f"the payload of a broadcast is not valid JSON: {error}")
        raise BadFrame(refusal, join_ref or None, ref or None, topic) from error
    payload = b'{"type":"broadcast","event":%b,"payload":%b}' % (_encoder.encode(event), payload)
    message = PhoenixMessage(join_ref or None, ref or None, topic, "broadcast", payload)
    _check_payload(message)
    return message


def _fields(data: bytes, sizes: bytes, at: int) -> tuple[list[str], int]:
    """The fields of these sizes, and where the payload begins."""
    fields: list[str] = []
    for size in sizes:
        if at + size > len(data):
            raise BadFrame(RpcError(ErrorCode.INVALID_REQUEST, "the header of a binary message says more than came"))
        try:
            fields.append(data[at : at + size].decode())
        except UnicodeDecodeError as error:
            refusal = RpcError(ErrorCode.INVALID_REQUEST, "the header of a binary message must be UTF-8")
            raise BadFrame(refusal) from error
        at += size
    return fields, at


def encode_value(value: str | int | None) -> bytes:
    """A ref, or a topic, as JSON."""
    return _encoder.encode(value)


def encode_reply(join_ref: Ref, ref: Ref, topic: str, status: Status, response: bytes) -> Frame:
    """The answer to a push; ``response`` is JSON."""
    return Frame(
        b'[%b,%b,%b,"phx_reply",{"status":"%b","response":%b}]'
        % (_encoder.encode(join_ref), _encoder.encode(ref), _encoder.encode(topic), status.encode(), response)
    )


def encode_result(join_ref: Ref, ref: Ref, topic: str, result: bytes) -> Frame:
    """An ``ok`` reply: binary where the result is exactly ``{"$bytes": base64}`` and the fields fit into a header."""
    if result.startswith(b'{"$bytes"'):
        data = _bytes_of(result)
        header = None if data is None else _reply_header(join_ref, ref, topic)
        if data is not None and header is not None:
            return Frame(header + data, binary=True)
    return encode_text_result(join_ref, ref, topic, result)


def encode_text_result(join_ref: Ref, ref: Ref, topic: str, result: bytes) -> Frame:
    """An ``ok`` reply as text, whatever the result is."""
    return encode_reply(join_ref, ref, topic, "ok", result)


def _bytes_of(result: bytes) -> bytes | None:
    try:
        return _binary_decoder.decode(result).data
    except UNREADABLE:
        return None


def _reply_header(join_ref: Ref, ref: Ref, topic: str) -> bytes | None:
    """``01 |join_ref| |ref| |topic| |status|`` and the fields; None where they cannot be told."""
    if not isinstance(join_ref, str) or not isinstance(ref, str):
        return None
    fields = [field.encode() for field in (join_ref, ref, topic, "ok")]
    if max(map(len, fields)) > MAX_FIELD_BYTES:
        return None
    return bytes((REPLY_KIND, *map(len, fields))) + b"".join(fields)


def encode_error(join_ref: Ref, ref: Ref, topic: str, error: RpcError) -> Frame:
    """An ``error`` reply whose response is an error object."""
    return encode_reply(join_ref, ref, topic, "error", encode_error_object(error))


def encode_push(join_ref: Ref, topic: str, event: str, payload: bytes) -> Frame:
    """A message for one join of a channel; ``payload`` is JSON."""
    return Frame(
        b"[%b,null,%b,%b,%b]" % (_encoder.encode(join_ref), _encoder.encode(topic), _encoder.encode(event), payload)
    )


def encode_broadcast(topic: str, event: str, payload: bytes) -> Frame:
    """A message for a channel, the same for all sockets; ``payload`` is JSON."""
    return Frame(b"[null,null,%b,%b,%b]" % (_encoder.encode(topic), _encoder.encode(event), payload))


def encode_broadcast_of(topic: str, event: str, payload: bytes) -> Frame:
    """A message for a channel: binary where the payload is ``{"$bytes": base64}`` and the fields fit into a header."""
    if payload.startswith(b'{"$bytes"') and (data := _bytes_of(payload)) is not None:
        fields = [topic.encode(), event.encode()]
        if max(map(len, fields)) <= MAX_FIELD_BYTES:
            return Frame(bytes((BROADCAST_KIND, *map(len, fields))) + b"".join(fields) + data, binary=True)
    return encode_broadcast(topic, event, payload)


def encode_end(join_ref: Ref, topic: str, event: Literal["phx_close", "phx_error"], reason: str = "") -> Frame:
    """The last message of a channel: ``phx_close``, it was left, or ``phx_error``, join it again."""
    payload = _encoder.encode({"reason": reason} if reason else {})
    encoded = _encoder.encode(join_ref)
    return Frame(b'[%b,%b,%b,"%b",%b]' % (encoded, encoded, _encoder.encode(topic), event.encode(), payload))
