"""JSON-RPC 2.0 in text frames: bytes in, messages out, and back.

Well-formed requests take one pass of a typed decoder that leaves ``params`` as bytes. Everything else
takes the slow path, whose job is a precise error and, where possible, the id of what was malformed.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import NO_METADATA, Batch, Id, Malformed, Metadata, Request, Response

_request_decoder: Final = msgspec.json.Decoder(Request)
_raw_list_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_metadata_decoder: Final = msgspec.json.Decoder(Metadata)
_encoder: Final = msgspec.json.Encoder()

Message = Request | Response | Malformed
_WHITESPACE: Final = b" \t\r\n"
_EMPTY_PARAMS: Final = b"{}"
_STRUCTURED: Final = b"{["
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


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
        if data.lstrip(_WHITESPACE)[:1] == b"[":
            return _decode_batch(data, max_batch)
        return _decode_invalid(data)
    return request if _params_are_structured(request) else _bad_params(request)


def decode_metadata(raw: bytes) -> Metadata:
    """Read the members of ``metadata`` that the hub acts on.

    Raises:
        RpcError: -32602, naming the member that has the wrong type.
    """
    if not raw:
        return NO_METADATA
    try:
        metadata = _metadata_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"metadata: {error}") from error
    if metadata.timeout_ms is not None and not 0 < metadata.timeout_ms <= 2**53:
        raise RpcError(ErrorCode.INVALID_PARAMS, "metadata.timeout_ms must be above 0")
    return metadata


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
    """``{code, message, data}`` as JSON; text that is not valid Unicode is escaped, never fatal."""
    try:
        return _encoder.encode(error.to_wire())
    except (UnicodeEncodeError, TypeError):
        safe = error.message.encode("utf-8", "backslashreplace").decode()
        plain = RpcError(error.code, safe, maybe_executed=error.maybe_executed)
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


def encode_progress(token: str | int, value: bytes) -> bytes:
    """A ``$/progress`` notification; ``value`` is JSON already."""
    return b'{"jsonrpc":"2.0","method":"$/progress","params":{"token":%b,"value":%b}}' % (
        _encoder.encode(token),
        value,
    )


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
    except msgspec.ValidationError as error:  # well-formed JSON that cannot be represented, like 1e400
        return Malformed(None, ErrorCode.INVALID_REQUEST, f"not representable: {error}")
    except _UNDECODABLE as error:
        return _parse_error(error)
    if not isinstance(value, dict):
        return Malformed(None, ErrorCode.INVALID_REQUEST, "a message must be a JSON object")
    request_id = value.get("id")
    known_id = request_id if type(request_id) in (int, str) else None
    if "method" not in value and ("result" in value or "error" in value) and value.get("jsonrpc") == "2.0":
        return _response(known_id, value)
    return Malformed(known_id, ErrorCode.INVALID_REQUEST, _what_is_wrong(value))


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
    return 'member "id" must be a string, an integer or null'


def _parse_error(error: Exception) -> Malformed:
    if isinstance(error, RecursionError):
        return Malformed(None, ErrorCode.PARSE_ERROR, "the JSON is nested too deeply")
    return Malformed(None, ErrorCode.PARSE_ERROR, f"not valid JSON: {error}")
