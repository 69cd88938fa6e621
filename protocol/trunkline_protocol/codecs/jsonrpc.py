"""JSON-RPC 2.0 in text frames: bytes in, messages out, and back.

Well-formed requests take one pass of a typed decoder that leaves ``params`` as bytes. Everything else
takes the slow path, whose job is a precise error and, where possible, the id of what was malformed.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from trunkline_protocol.depth import MAX_DEPTH, clipped, is_too_deep, require_depth
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import (
    NO_METADATA,
    Batch,
    Id,
    Malformed,
    Metadata,
    RawOrUnset,
    Request,
    Response,
    StreamPush,
)
from trunkline_protocol.session import ProtocolViolation, batch_seq


class _CallOnly(msgspec.Struct):
    """What tells whom to answer, unparsed."""

    method: RawOrUnset = msgspec.UNSET
    id: RawOrUnset = msgspec.UNSET


class _RequestIdOnly(msgspec.Struct):
    """What tells which call is meant."""

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
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNDECODABLY_DEEP: Final = Malformed(None, ErrorCode.PARSE_ERROR, f"nested deeper than {MAX_DEPTH} levels")
_SEQ_IN_FRONT: Final = re.compile(rb'[\s\[]*\{\s*"seq"\s*:\s*([1-9][0-9]{0,15})\s*[,}]')

UNREADABLE: Final = _UNDECODABLE
"""What decoding a peer's JSON may raise."""


def decode(data: bytes, max_batch: int) -> Message | Batch:
    """Read one text frame.

    Args:
        data: UTF-8 JSON. The caller has checked that it is UTF-8.
        max_batch: how many members a batch may have.

    Never raises: what cannot be read comes back as ``Malformed``.
    """
    try:
        request = _request_decoder.decode(data)
    except _UNDECODABLE:
        return _decode_other(data, max_batch)
    return request if _params_are_structured(request) else _bad_params(request)


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


class _Numbered(msgspec.Struct):
    seq: int | msgspec.UnsetType = msgspec.UNSET


class _Odd(msgspec.Struct):
    """A message whose number is of any type."""

    seq: RawOrUnset = msgspec.UNSET


class _Named(msgspec.Struct):
    method: str = ""


_numbered_decoder: Final = msgspec.json.Decoder(_Numbered)
_odd_decoder: Final = msgspec.json.Decoder(_Odd)
_odd_list_decoder: Final = msgspec.json.Decoder(list[_Odd])
_named_decoder: Final = msgspec.json.Decoder(_Named)


def seq_of(data: bytes) -> int | None:
    """The number of a frame (SPEC.md, Sessions); None where it has none.

    What is no JSON, or nested too deeply, is counted, too, where its number can be found: it is in front, or what is
    too deep can be left out.

    Raises:
        ProtocolViolation: it is no integer, or the members of a batch have different ones.
    """
    try:
        seq = _numbered_decoder.decode(data).seq
    except RecursionError:
        return _seq_in_front(data) or _odd_seq(clipped(data) or b"")
    except _UNDECODABLE:
        return _odd_seq(data) or _seq_in_front(data)
    return None if seq is msgspec.UNSET else seq


def _seq_in_front(data: bytes) -> int | None:
    found = _SEQ_IN_FRONT.match(data)
    return None if found is None else int(found[1])


def _odd_seq(data: bytes) -> int | None:
    """The number of a batch, or of what is no message."""
    try:
        if data.lstrip(_WHITESPACE)[:1] == b"[":
            return batch_seq(_number(member.seq) for member in _odd_list_decoder.decode(data))
        return _number(_odd_decoder.decode(data).seq)
    except _UNDECODABLE:
        return None


def _number(seq: RawOrUnset) -> int | None:
    if isinstance(seq, msgspec.UnsetType):
        return None
    try:
        return msgspec.json.decode(seq, type=int)
    except _UNDECODABLE as error:
        raise ProtocolViolation("seq is no integer") from error


def method_of(data: bytes) -> str:
    """The method of a request that is no batch, or nothing."""
    try:
        return _named_decoder.decode(data).method
    except _UNDECODABLE:
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
    except _UNDECODABLE as error:  # too deep for this stack, too: the envelope was read nearer to its bottom
        raise RpcError(ErrorCode.INVALID_PARAMS, f"metadata: {error}") from error
    require_depth(raw, "metadata")
    if metadata.timeout_ms is not None and not 0 < metadata.timeout_ms <= 2**53:
        raise RpcError(ErrorCode.INVALID_PARAMS, "metadata.timeout_ms must be above 0")
    return metadata


def decode_push(params: bytes) -> StreamPush | Malformed | None:
    """Read the params of ``stream.push``. None if it does not even say which call it is for."""
    try:
        return _push_decoder.decode(params)
    except _UNDECODABLE as error:
        problem = str(error)
    request_id = call_of(params)
    return None if request_id is None else Malformed(request_id, ErrorCode.INVALID_PARAMS, problem)


def call_of(params: bytes) -> Id:
    """The ``request_id`` of a notification's params; None where it has none."""
    try:
        return _request_id_decoder.decode(params).request_id
    except _UNDECODABLE:
        return None


def encode_id(request_id: Id) -> bytes:
    """An id as JSON."""
    return b"%d" % request_id if type(request_id) is int else _encoder.encode(request_id)


def encode_result(request_id: bytes, result: bytes) -> bytes:
    """A success reply. Both arguments are JSON already: the result is spliced, not parsed."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, result)


def encode_error(request_id: bytes, error: bytes) -> bytes:
    """An error reply; ``error`` is an encoded error object (see :func:`encode_error_object`)."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request_id, error)


def encode_error_object(error: RpcError) -> bytes:
    """``{code, message, data}`` as JSON; text that is not valid Unicode is escaped, never fatal.

    ``data`` that JSON cannot carry (objects, cycles, integers of thousands of digits) is left out.
    """
    try:
        return _encoder.encode(error.to_wire())
    except (ValueError, TypeError, RecursionError):
        safe = error.message.encode("utf-8", "backslashreplace").decode()
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


def encode_request(request_id: str, method: str, params: bytes, metadata: bytes) -> bytes:
    """A request of the hub's to a client that registered the method. Params and metadata are JSON already."""
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b,"metadata":%b}' % (
        _encoder.encode(request_id),
        _encoder.encode(method),
        params,
        metadata,
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


def encode_event(topic: str, data: bytes, epoch: str, offset: int, published_at: int) -> bytes:
    """An ``event`` notification; ``data`` is JSON already, ``published_at`` milliseconds since 1970."""
    return (
        b'{"jsonrpc":"2.0","method":"event","params":{"topic":%b,"data":%b,"epoch":%b,"offset":%d,"published_at":%d}}'
        % (_encoder.encode(topic), data, _encoder.encode(epoch), offset, published_at)
    )


def encode_gap(topic: str, epoch: str, first: int, last: int, count: int | None, reason: str) -> bytes:
    """An ``event.gap`` notification: the events ``first`` to ``last``, both included, do not come."""
    params: dict[str, Any] = {"topic": topic, "epoch": epoch, "from": first, "to": last}
    if count is not None:
        params["count"] = count
    return _encoder.encode({"jsonrpc": "2.0", "method": "event.gap", "params": params | {"reason": reason}})


def encode_batch(replies: list[bytes]) -> bytes:
    """The one frame that answers a batch."""
    return b"[%b]" % b",".join(replies)


def params_of(request: Request) -> bytes:
    """The request's params as JSON; absent params are an empty object."""
    return _EMPTY_PARAMS if request.params is msgspec.UNSET else bytes(request.params)


def metadata_of(request: Request) -> bytes:
    """The request's metadata as JSON, or nothing."""
    return b"" if request.metadata is msgspec.UNSET else bytes(request.metadata)


def _params_are_structured(request: Request) -> bool:
    params = request.params
    return params is msgspec.UNSET or memoryview(params)[0] in _STRUCTURED


def _bad_params(request: Request) -> Malformed:
    request_id = None if request.id is msgspec.UNSET else request.id
    return Malformed(request_id, ErrorCode.INVALID_REQUEST, "params must be an object or an array")


def _decode_batch(data: bytes, max_batch: int) -> Batch | Malformed:
    try:
        members = _raw_list_decoder.decode(data)
    except _UNDECODABLE as error:
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


def _decode_member(data: bytes) -> Message:
    try:
        request = _request_decoder.decode(data)
    except _UNDECODABLE:
        return _decode_invalid(data)
    return request if _params_are_structured(request) else _bad_params(request)


def _decode_invalid(data: bytes) -> Response | Malformed:
    """Find out what is wrong with something that is not a request."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.ValidationError as error:
        return _not_representable(data, error)
    except _UNDECODABLE as error:
        return _parse_error(error)
    if not isinstance(value, dict):
        return Malformed(None, ErrorCode.INVALID_REQUEST, "a message must be a JSON object")
    request_id = value.get("id")
    known_id = request_id if type(request_id) in (int, str) else None
    if "method" not in value and ("result" in value or "error" in value) and value.get("jsonrpc") == "2.0":
        return _response(known_id, value)
    return Malformed(known_id, ErrorCode.INVALID_REQUEST, _what_is_wrong(value))


def _not_representable(data: bytes, error: Exception) -> Malformed:
    """A number nobody can hold, like 1e400, in what may be no JSON further on."""
    try:
        _raw_decoder.decode(data)
    except _UNDECODABLE as worse:
        return _parse_error(worse)
    return Malformed(_id_of_request(data), ErrorCode.INVALID_REQUEST, f"not representable: {error}")


def _id_of_request(data: bytes) -> Id:
    try:
        call = _call_decoder.decode(data)
        if call.method is msgspec.UNSET or call.id is msgspec.UNSET:
            return None  # a response: an error under its id could settle a call of the peer's own
        request_id: Id = _id_decoder.decode(call.id)
    except _UNDECODABLE:
        return None
    return request_id


def _response(request_id: Id, value: dict[str, Any]) -> Response:
    error = value.get("error")
    if error is not None:
        return Response(request_id, error=error if isinstance(error, dict) else {"message": str(error)})
    return Response(request_id, result=msgspec.Raw(_encoder.encode(value.get("result"))))


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
