"""``POST /api/v1/<path>``: one method per path, its params as the body, its result as the response (SPEC.md, HTTP)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from trunkline.edge.context import EdgeContext
from trunkline.edge.http.answer import HttpAnswer, Refused, error_headers, send_answer
from trunkline.edge.http.body import PeerLeft, read_body
from trunkline.edge.http.exchange import ExchangeServices, decode_notification, decode_reply
from trunkline.edge.http.http_exchange import Form, HttpExchange
from trunkline.edge.http.named_requests import request_id_of
from trunkline.edge.http.request import (
    EVENT_STREAM,
    accepts,
    acting_as,
    acting_tenant,
    admit,
    require_json,
    require_method,
    require_one_value,
)
from trunkline.edge.http.rpc import one_line
from trunkline.edge.http.uploads import read_upload, upload_of
from trunkline.hub.principal import Principal
from trunkline_protocol.binary import MARK, from_member
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.form_fields import OCTETS

PREFIX: Final = "/api/v1/"
PROBLEM: Final = "application/problem+json"
NOT_ACCEPTABLE: Final = 406
MAX_HEADER_CHARS: Final = 256

_ID: Final = "0"
_RESULT: Final = jsonrpc.encode_result(jsonrpc.encode_id(_ID), b"")[:-1]
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\b\"?", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d+(\.\d+)?")
_encoder: Final = msgspec.json.Encoder()


_NEAR: Final = 64
"""Where in a result that is bytes the member of binary data begins, whatever blanks are before it."""

_member_decoder: Final = msgspec.json.Decoder(dict[str, str])


def problem(error: RpcError, headers: Mapping[str, str], status: int | None = None) -> HttpAnswer:
    """An error as a response with problem details (RFC 9457), which contain the JSON-RPC error object.

    Args:
        headers: further ones of the response.
        status: of HTTP, where another says it better than that of the error's row.
    """
    status = error.row.http_status if status is None else status
    details = {
        "type": f"urn:trunkline:error:{error.name}",
        "title": error.name,
        "status": status,
        "detail": error.message,
        "error": msgspec.Raw(jsonrpc.encode_error_object(error)),
    }
    return HttpAnswer(status, _encoder.encode(details), error_headers(error) | dict(headers), PROBLEM)


class TaskForm(Form):
    """The result alone, or problem details; as events ``chunk``, ``progress``, ``result`` and ``error``.

    Args:
        headers: further ones of the response.
        takes_bytes: a result that is bytes is the body as it is, not in JSON.
    """

    def __init__(self, headers: Mapping[str, str], takes_bytes: bool = False) -> None:
        self._headers = dict(headers)
        self._takes_bytes = takes_bytes

    @override
    def answer(self, reply: bytes | None) -> HttpAnswer:
        assert reply is not None, "a task has an id"
        if reply.startswith(_RESULT):
            result = reply[len(_RESULT) : -1]
            if self._takes_bytes and (data := _bytes_of(result)) is not None:
                return HttpAnswer(200, data, self._headers, OCTETS)
            return HttpAnswer(200, result, self._headers)
        error = _error_of(reply)
        is_accept = error.code == ErrorCode.INVALID_REQUEST and error.data.get("accept") == EVENT_STREAM
        return problem(error, self._headers, NOT_ACCEPTABLE if is_accept else None)

    @override
    def instead(self, reply: bytes) -> HttpAnswer | None:
        # A call that failed before its first chunk can still be answered with an HTTP status.
        return None if reply.startswith(_RESULT) else self.answer(reply)

    @override
    def event(self, message: bytes) -> bytes:
        if message.startswith(_RESULT):
            return _event(b"result", message[len(_RESULT) : -1])
        if b'"method":' not in message[:32]:
            return _event(b"error", jsonrpc.encode_error_object(_error_of(message)))
        said = decode_notification(message)
        if said.method == "$/progress":
            return _event(b"progress", bytes(said.params.value))
        if said.params.is_final:
            return b""  # the result that follows ends the stream
        params = said.params
        return _event(
            b"chunk", _encoder.encode({"chunk_type": params.chunk_type, "data": params.data, "index": params.index})
        )


def _bytes_of(result: bytes) -> bytes | None:
    """The bytes that a result is; None where it is anything else."""
    if MARK not in result[:_NEAR]:
        return None
    try:
        return from_member(_member_decoder.decode(result))
    except msgspec.ValidationError:
        return None


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, one_line(data))


def _error_of(reply: bytes) -> RpcError:
    return RpcError.from_wire(decode_reply(reply).error)


class TaskPaths:
    """Finds the method that a path stands for.

    Args:
        methods: the methods that executors serve now, by name.
        known: checks that the hub, a client or an executor serves a tenant a method; raises :class:`RpcError` if not.
    """

    def __init__(self, methods: Callable[[], Mapping[str, MethodInfo]], known: Callable[[str, str], object]) -> None:
        self._methods = methods
        self._known = known

    def method_at(self, path: str, tenant: str) -> str:
        """The name of the method at a path.

        Args:
            path: without :data:`PREFIX`.
            tenant: of who asks.

        Raises:
            RpcError: -32601, or 1001 while no executor is ready and the method may still appear.
        """
        name, methods = path.replace("/", "."), self._methods()
        info = methods.get(name)
        if info is not None and info.http_path == path:
            return name
        for other in methods.values():
            if other.http_path == path:
                return other.name
        if info is not None or "." in path:
            raise RpcError(
                ErrorCode.METHOD_NOT_FOUND, f"no method at {PREFIX}{path:.200}; /openapi.json lists the paths"
            )
        self._known(name, tenant)
        return name

    def info_of(self, method: str, tenant: str) -> MethodInfo | None:
        """The catalogue entry of a method, as a tenant has it; None where the hub answers it itself."""
        found = self._methods().get(method) or self._known(method, tenant)
        return found if isinstance(found, MethodInfo) else None


class TaskEndpoint:
    """The ASGI application at ``/api/v1/``.

    Args:
        context: what all connections of the hub share.
        services: see :func:`trunkline.edge.http.exchange.exchange_services`.
        paths: finds a path's method.
    """

    def __init__(self, context: EdgeContext, services: ExchangeServices, paths: TaskPaths) -> None:
        self._context = context
        self._services = services
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request below ``/api/v1/``."""
        headers = Headers(scope=scope)
        echoed: dict[str, str] = {}
        try:
            principal = await admit(self._context, scope, headers)
            metadata = metadata_of(headers, echoed) | {"request_id": request_id_of(scope)}
            tenant = acting_tenant(self._context, principal, metadata)
            method = self._method_at(scope["path"].removeprefix(PREFIX), tenant)
            require_method(scope, "POST")
            takes_events = accepts(headers, EVENT_STREAM)
            if takes_events:
                metadata["progress_token"] = 0
            upload = upload_of(headers, self._paths.info_of(method, tenant))
            services = self._services.of(takes_events)
            with HttpExchange(self._context, services, principal, scope, takes_events) as exchange:
                # Before an upload: what a method takes, and a large body, are for those who may call it.
                refusal = exchange.refusal_of(method) if upload and "act_as" not in metadata else None
                params = b"{}"
                if refusal is None and upload is not None:
                    params = await read_upload(self._context, principal, scope, headers, receive, upload)
                elif refusal is None:
                    params = await self._params(principal, headers, receive)
                message = jsonrpc.encode_request(_ID, method, params, _encoder.encode(metadata))
                form = TaskForm(echoed, accepts(headers, OCTETS))
                await exchange.run(message, form, receive, send, refusal)
        except PeerLeft:
            pass
        except Refused as refused:
            await send_answer(send, problem(refused.error, refused.headers | echoed, refused.status))

    def _method_at(self, path: str, tenant: str) -> str:
        try:
            return self._paths.method_at(path, tenant)
        except RpcError as error:
            raise Refused(error) from error

    async def _params(self, principal: Principal, headers: Headers, receive: Receive) -> bytes:
        if "content-type" in headers or "content-encoding" in headers:
            require_json(headers)
        body = await read_body(self._context, principal, headers, receive)
        if not body:
            return b"{}"
        require_json(headers)
        require_one_value(body)
        if body.lstrip()[:1] != b"{":
            raise Refused(RpcError(ErrorCode.INVALID_PARAMS, "the body has to be a JSON object: the params by name"))
        return body


def metadata_of(headers: Headers, echoed: dict[str, str]) -> dict[str, Any]:
    """The ``metadata`` of a call, from the request's headers.

    Args:
        echoed: receives the response's headers that repeat what was requested.

    Raises:
        Refused: -32602 (400), naming the header that is not valid.
    """
    metadata: dict[str, Any] = acting_as(headers)
    if (key := _text(headers, "Idempotency-Key")) is not None:
        metadata["idempotency_key"] = key.strip('"')  # the header's draft standard wants it quoted
        if (epoch := _text(headers, "Idempotency-Epoch")) is not None:
            metadata["idempotency_epoch"] = epoch
    if (priority := _text(headers, "X-Priority")) is not None:
        if priority not in ("low", "normal", "high"):
            raise _bad_header("X-Priority", "low, normal or high")
        metadata["priority"] = priority
    if (timeout := _text(headers, "X-Timeout-Ms")) is not None:
        if not _NUMBER.fullmatch(timeout) or float(timeout) == 0:
            raise _bad_header("X-Timeout-Ms", "milliseconds, above 0")
        metadata["timeout_ms"] = float(timeout)
    elif (wait := _WAIT.search(headers.get("prefer", ""))) is not None and int(wait[1]) > 0:
        metadata["timeout_ms"] = 1000 * int(wait[1])
        echoed["Preference-Applied"] = f"wait={int(wait[1])}"
    return metadata


def _text(headers: Headers, name: str) -> str | None:
    value = headers.get(name)
    if value is not None and not (0 < len(value) <= MAX_HEADER_CHARS and value.isascii() and value.isprintable()):
        raise _bad_header(name, f"1 to {MAX_HEADER_CHARS} printable ASCII characters")
    return value


def _bad_header(name: str, wanted: str) -> Refused:
    return Refused(RpcError(ErrorCode.INVALID_PARAMS, f"header {name} has to be {wanted}"))
