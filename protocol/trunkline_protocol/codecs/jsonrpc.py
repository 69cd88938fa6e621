"""JSON-RPC 2.0 in text frames: bytes in, messages out, and back.

Well-formed requests take one pass of a typed decoder that leaves ``params`` as bytes. Everything else
takes the slow path, whose job is a precise error and, where possible, the id of what was malformed.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from trunkline_protocol.codecs.answers import about_request, is_hubs_id
from trunkline_protocol.depth import MAX_DEPTH, clipped, is_too_deep, require_depth
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import (
    NO_METADATA,
    UNREADABLE,
    Batch,
    Id,
    Malformed,
    Metadata,
    RawOrUnset,
    Request,
    Response,
    StreamPush,
)
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import tenant_and_name
from trunkline_protocol.values import SMALL, json_is_too_much, too_much


class _CallOnly(msgspec.Struct):
    """The members that tell whom to answer, unparsed."""

    method: RawOrUnset = msgspec.UNSET
    id: RawOrUnset = msgspec.UNSET


class _RequestIdOnly(msgspec.Struct):
    """The member that tells which call is meant."""

    request_id: Id


_request_decoder: Final = msgspec.json.Decoder(Request)
_raw_list_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_push_decoder: Final = msgspec.json.Decoder(StreamPush)
_request_id_decoder: Final = msgspec.json.Decoder(_RequestIdOnly)
_metadata_decoder: Final = msgspec.json.Decoder(Metadata)
_call_decoder: Final = msgspec.json.Decoder(_CallOnly)
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)
_id_decoder: Final = msgspec.json.Decoder(int | str | None)
_encoder: Final = msgspec.json.Encoder()

Message = Request | Response | Malformed
_WHITESPACE: Final = b" \t\r\n"
_EMPTY_PARAMS: Final = b"{}"
_STRUCTURED: Final = b"{["
MAX_METADATA_BYTES: Final = 64 * 1024
"""Metadata is read wherever a call goes: what is large belongs into the params."""

_UNDECODABLY_DEEP: Final = Malformed(None, ErrorCode.PARSE_ERROR, f"nested deeper than {MAX_DEPTH} levels")


def decode(data: bytes, max_batch: int) -> Message | Batch:
    """Read one text frame.

    Args:
        data: UTF-8 JSON. The caller has checked that it is UTF-8.
        max_batch: how many members a batch may have.

    Never raises: what cannot be read comes back as ``Malformed``.
    """
    try:
        request = _request_decoder.decode(data)
    except UNREADABLE:
        return _decode_other(data, max_batch)
    return request if _is_well_formed(request) else _ill_formed(request)


def _decode_other(data: bytes, max_batch: int) -> Message | Batch:
    is_batch = data.lstrip(_WHITESPACE)[:1] == b"["
    message = _decode_batch(data, max_batch) if is_batch else _decode_invalid(data)
    if message is _UNDECODABLY_DEEP and (shallow := clipped(data)) is not None:
        known = decode(shallow, max_batch)
        return _refused_batch(known) if isinstance(known, Batch) else _refused(known)
    return message


def _refused(message: Message) -> Message:
    """A message that was too deep to decode, from what is left of it: whom it concerns is told."""
    if isinstance(message, Request):
        # What is left of a notification is still deeper than is allowed: it is refused where it belongs.
        return message if message.id is msgspec.UNSET else _too_deep(message.id)
    if isinstance(message, Response) and isinstance(message.id, str):
        error = RpcError(ErrorCode.SERIALIZATION_ERROR, _UNDECODABLY_DEEP.message, maybe_executed=True)
        return Response(message.id, error=error.to_wire())
    return _UNDECODABLY_DEEP


def _refused_batch(batch: Batch) -> Batch | Malformed:
    """A batch with a member that was too deep to decode; what is left of such a member is still too deep."""
    members = [_refused(member) if is_too_deep(_payload(member)) else member for member in batch.members]
    has_calls = any(isinstance(member, Request) for member in batch.members)
    return Batch(members) if has_calls else _UNDECODABLY_DEEP


def _payload(message: Message) -> bytes:
    if isinstance(message, Request):
        return b"[%b,%b]" % (params_of(message), metadata_of(message) or b"0")
    if isinstance(message, Response) and message.result is not msgspec.UNSET:
        return bytes(message.result)
    return b""


def _too_deep(request_id: Id) -> Malformed:
    return Malformed(request_id, ErrorCode.PARSE_ERROR, _UNDECODABLY_DEEP.message)


class _Named(msgspec.Struct):
    method: str = ""


_named_decoder: Final = msgspec.json.Decoder(_Named)


def method_of(data: bytes) -> str:
    """The method of a request; empty for a batch and for anything else."""
    try:
        return _named_decoder.decode(data).method
    except UNREADABLE:
        return ""


def decode_metadata(raw: bytes) -> Metadata:
    """Read the members of ``metadata`` that the hub acts on.

    Raises:
        RpcError: -32602, naming the member that has the wrong type.
    """
    if not raw:
        return NO_METADATA
    try:
        metadata = _metadata_decoder.decode(raw)
    except UNREADABLE as error:  # too deep for this stack, too: the envelope was read nearer to its bottom
        raise RpcError(ErrorCode.INVALID_PARAMS, f"metadata: {error}") from error
    require_depth(raw, "metadata")
    if metadata.timeout_ms is not None and not 0 < metadata.timeout_ms <= 2**53:
        raise RpcError(ErrorCode.INVALID_PARAMS, "metadata.timeout_ms must be above 0")
    return metadata


def decode_push(params: bytes) -> StreamPush | Malformed | None:
    """Read the params of ``stream.push``. None if they do not say which call the item is for."""
    try:
        return _push_decoder.decode(params)
    except UNREADABLE as error:
        problem = str(error)
    request_id = call_of(params)
    return None if request_id is None else Malformed(request_id, ErrorCode.INVALID_PARAMS, problem)


def call_of(params: bytes) -> Id:
    """The ``request_id`` of a notification's params; None where it has none."""
    try:
        return _request_id_decoder.decode(params).request_id
    except UNREADABLE:
        return None


def encode_id(request_id: Id) -> bytes:
    """An id as JSON."""
    return b"%d" % request_id if type(request_id) is int else _encoder.encode(request_id)


def encode_result(request_id: bytes, result: bytes) -> bytes:
    """A success response. Both arguments are JSON already: the result is spliced, not parsed."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, result)


def encode_error(request_id: bytes, error: bytes) -> bytes:
    """An error response; ``error`` is an encoded error object (see :func:`encode_error_object`)."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request_id, error)


def encode_error_object(error: RpcError) -> bytes:
    """``{code, message, data}`` as JSON; a message that is no text, or not valid Unicode, is escaped, never fatal.

    ``data`` that JSON cannot carry (objects, cycles, integers of thousands of digits) is left out.
    """
    try:
        return _encoder.encode(error.to_wire())
    except (ValueError, TypeError, RecursionError):
        safe = str(error.message).encode("utf-8", "backslashreplace").decode()
        plain = RpcError(error.code, safe, maybe_executed=error.maybe_executed, retry_after_ms=error.retry_after_ms)
        return _encoder.encode(plain.to_wire())


def encode_chunk(request_id: bytes, chunk_type: bytes, data: bytes, index: int) -> bytes:
    """A ``stream_chunk`` notification. ``chunk_type`` is a JSON string, ``data`` any JSON."""
    return (
        b'{"jsonrpc":"2.0","method":"stream_chunk","params":{"request_id":%b,"chunk_type":%b,'
        b'"data":%b,"is_final":false,"index":%d}}' % (request_id, chunk_type, data, index)
    )


def encode_final_chunk(request_id: bytes, chunk_type: bytes, index: int) -> bytes:
    """The chunk that ends a successful stream: no data, and ``index`` counts the chunks before it."""
    return (
        b'{"jsonrpc":"2.0","method":"stream_chunk","params":{"request_id":%b,"chunk_type":%b,'
        b'"data":null,"is_final":true,"index":%d}}' % (request_id, chunk_type, index)
    )


def encode_input_credit(request_id: bytes, consumed: int) -> bytes:
    """A ``stream.credit`` notification to whoever pushes: ``consumed`` items were taken so far, in total."""
    return b'{"jsonrpc":"2.0","method":"stream.credit","params":{"request_id":%b,"consumed":%d}}' % (
        request_id,
        consumed,
    )


def encode_request(request_id: str, method: str, params: bytes, metadata: bytes, principal: bytes = b"") -> bytes:
    """A request of the hub's to a client that registered the method. All but id and method is JSON already."""
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b,"metadata":%b%b}' % (
        _encoder.encode(request_id),
        _encoder.encode(method),
        params,
        metadata,
        principal and b',"principal":%b' % principal,
    )


def encode_cancel(request_id: Id) -> bytes:
    """A ``$/cancelRequest`` notification for a request of one's own."""
    return b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%b}}' % _encoder.encode(request_id)


def encode_progress(token: str | int, value: bytes) -> bytes:
    """A ``$/progress`` notification; ``value`` is JSON already."""
    return b'{"jsonrpc":"2.0","method":"$/progress","params":{"token":%b,"value":%b}}' % (
        _encoder.encode(token),
        value,
    )


_EVENT: Final = (
    b'{"jsonrpc":"2.0","method":"event","params":{"topic":%b,"data":%b,"epoch":%b,"offset":%d,"published_at":%d%b}}'
)


def encode_event(topic: str, data: bytes, epoch: str, offset: int, published_at: int, publisher: str = "") -> bytes:
    """An ``event`` notification; ``data`` is JSON already, ``published_at`` milliseconds since 1970.

    Args:
        publisher: a name, or its key where it is of another tenant than those that get the event may take it for.
    """
    return _EVENT % (_encoder.encode(topic), data, _quoted(epoch), offset, published_at, _said_by(publisher))


_quoted: Final = functools.lru_cache(maxsize=1024)(_encoder.encode)
"""A text that stands in event after event, as JSON."""


@functools.lru_cache(maxsize=1024)
def _said_by(publisher: str) -> bytes:
    """The last members of an event's params; none where there is no name to tell."""
    if not publisher:
        return b""
    tenant, name = tenant_and_name(publisher)
    of = b"" if tenant == DEFAULT_TENANT else b',"tenant":%b' % _encoder.encode(tenant)
    return b',"publisher":%b%b' % (_encoder.encode(name), of)


def encode_gap(topic: str, epoch: str, first: int, last: int, count: int | None, reason: str) -> bytes:
    """An ``event.gap`` notification: the events ``first`` to ``last``, both included, do not come."""
    params: dict[str, Any] = {"topic": topic, "epoch": epoch, "from": first, "to": last}
    if count is not None:
        params["count"] = count
    return _encoder.encode({"jsonrpc": "2.0", "method": "event.gap", "params": params | {"reason": reason}})


def encode_batch(replies: list[bytes]) -> bytes:
    """The one frame with the responses to a batch."""
    return b"[%b]" % b",".join(replies)


def params_of(request: Request) -> bytes:
    """The request's params as JSON; absent params are an empty object."""
    return _EMPTY_PARAMS if request.params is msgspec.UNSET else bytes(request.params)


def metadata_of(request: Request) -> bytes:
    """The request's metadata as JSON, or nothing."""
    return b"" if request.metadata is msgspec.UNSET else bytes(request.metadata)


def _is_well_formed(request: Request) -> bool:
    params, metadata = request.params, request.metadata
    return (params is msgspec.UNSET or memoryview(params)[0] in _STRUCTURED) and (
        metadata is msgspec.UNSET or len(memoryview(metadata)) <= MAX_METADATA_BYTES
    )


def _ill_formed(request: Request) -> Malformed:
    request_id = None if request.id is msgspec.UNSET else request.id
    if not isinstance(request.metadata, msgspec.UnsetType) and len(memoryview(request.metadata)) > MAX_METADATA_BYTES:
        words = f"metadata may have {MAX_METADATA_BYTES} bytes; send what is larger in the params"
        return Malformed(request_id, ErrorCode.INVALID_PARAMS, words)
    return Malformed(request_id, ErrorCode.INVALID_REQUEST, "params must be an object or an array")


def _decode_batch(data: bytes, max_batch: int) -> Batch | Malformed:
    try:
        if len(data) > SMALL and not isinstance(_first_decoder(max_batch + 1).decode(data).last, msgspec.UnsetType):
            return Malformed(
                None, ErrorCode.INVALID_REQUEST, f"a batch may have {max_batch} members, this one has more"
            )
        members = _raw_list_decoder.decode(data)
    except UNREADABLE as error:
        return _parse_error(error)
    if not members:
        return Malformed(None, ErrorCode.INVALID_REQUEST, "a batch must have at least one member")
    if len(members) > max_batch:
        return Malformed(
            None,
            ErrorCode.INVALID_REQUEST,
            f"a batch may have {max_batch} members, this one has {len(members)}",
        )
    return Batch([_decode_member(bytes(member)) for member in members])


@functools.lru_cache(maxsize=4)
def _first_decoder(number: int) -> msgspec.json.Decoder[Any]:
    """Reads so many members of an array, and skips those behind them."""
    names = [f"m{position}" for position in range(number - 1)]
    fields = [(name, RawOrUnset, msgspec.UNSET) for name in (*names, "last")]
    return msgspec.json.Decoder(msgspec.defstruct("_First", fields, array_like=True))


def _decode_member(data: bytes) -> Message:
    try:
        request = _request_decoder.decode(data)
    except UNREADABLE:
        return _decode_invalid(data)
    return request if _is_well_formed(request) else _ill_formed(request)


def _decode_invalid(data: bytes) -> Response | Malformed:
    """Find out what is wrong with something that is not a request."""
    if json_is_too_much(data):
        return _decode_unread(data)
    try:
        value = msgspec.json.decode(data)
    except msgspec.ValidationError as error:
        return _not_representable(data, error)
    except UNREADABLE as error:
        return _unparsable(data, error)
    if not isinstance(value, dict):
        return Malformed(None, ErrorCode.INVALID_REQUEST, "a message must be a JSON object")
    request_id = value.get("id")
    known_id = request_id if type(request_id) in (int, str) else None
    has_outcome = "result" in value or "error" in value
    if "method" not in value and has_outcome and value.get("jsonrpc") == "2.0":
        return _response(known_id, value)
    fault = Malformed(known_id, ErrorCode.INVALID_REQUEST, _what_is_wrong(value))
    is_answer = is_hubs_id(known_id) and (has_outcome or "method" not in value)
    return Response(known_id, fault=fault) if is_answer else fault


def _unparsable(data: bytes, error: Exception) -> Response | Malformed:
    fault = _parse_error(error)
    about = about_request(data)
    return fault if about is None else Response(about, fault=fault)


class _Unread(msgspec.Struct):
    """A message that is no request, unparsed."""

    id: RawOrUnset = msgspec.UNSET
    method: RawOrUnset = msgspec.UNSET
    result: RawOrUnset = msgspec.UNSET
    error: RawOrUnset = msgspec.UNSET


_unread_decoder: Final = msgspec.json.Decoder(_Unread)


def _decode_unread(data: bytes) -> Response | Malformed:
    """A message that holds more than may be unpacked. If it is a response, its caller has to be told."""
    try:
        unread = _unread_decoder.decode(data)
        request_id = None if isinstance(unread.id, msgspec.UnsetType) else _id_decoder.decode(unread.id)
    except UNREADABLE:
        return Malformed(None, ErrorCode.INVALID_REQUEST, too_much("the message").message)
    if unread.method is msgspec.UNSET and (unread.result is not msgspec.UNSET or unread.error is not msgspec.UNSET):
        return Response(request_id, error=too_much("the reply", ErrorCode.SERIALIZATION_ERROR).to_wire())
    return Malformed(request_id, ErrorCode.INVALID_REQUEST, too_much("the message").message)


def _not_representable(data: bytes, error: Exception) -> Response | Malformed:
    """A number nobody can hold, like 1e400, in what may be no JSON further on."""
    try:
        _raw_decoder.decode(data)
    except UNREADABLE as worse:
        return _unparsable(data, worse)
    words = f"not representable: {error}"
    unknown = Malformed(None, ErrorCode.INVALID_REQUEST, words)
    try:
        call = _call_decoder.decode(data)
        known_id: Id = None if call.id is msgspec.UNSET else _id_decoder.decode(call.id)
    except UNREADABLE:
        return unknown
    if call.method is not msgspec.UNSET:
        return Malformed(known_id, ErrorCode.INVALID_REQUEST, words)
    # An error under the id of a response could settle a call of the peer's own.
    return Response(known_id, fault=unknown) if is_hubs_id(known_id) else unknown


def _response(request_id: Id, value: dict[str, Any]) -> Response:
    error, result = value.get("error"), value.get("result")
    if error is not None and result is not None:
        return _no_response(request_id, "a response must not have both result and error")
    if error is not None:
        return Response(request_id, error=error if isinstance(error, dict) else {"message": str(error)})
    if "result" not in value:
        return _no_response(request_id, "a response must have a result or an error")
    try:
        return Response(request_id, result=msgspec.Raw(_encoder.encode(result)))
    except (ValueError, OverflowError, RecursionError) as unwritable:
        return _no_response(request_id, f"its result cannot be passed on: {unwritable}")


def _no_response(request_id: Id, words: str) -> Response:
    return Response(request_id, fault=Malformed(None, ErrorCode.INVALID_REQUEST, words))


def _what_is_wrong(value: dict[str, Any]) -> str:
    if value.get("jsonrpc") != "2.0":
        return 'member "jsonrpc" must be the string "2.0"'
    if not isinstance(value.get("method"), str):
        return 'member "method" must be a string'
    if value.get("id") is None or type(value["id"]) in (int, str):
        return "a member is given twice, once with a wrong type"
    return 'member "id" must be a string, an integer or null'


def _parse_error(error: Exception) -> Malformed:
    if isinstance(error, RecursionError):
        return _UNDECODABLY_DEEP
    return Malformed(None, ErrorCode.PARSE_ERROR, f"not valid JSON: {error}")
