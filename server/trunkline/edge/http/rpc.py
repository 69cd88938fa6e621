"""``POST /rpc``: JSON-RPC 2.0 over HTTP, one message or batch per request (SPEC.md, HTTP)."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from trunkline.edge.context import EdgeContext
from trunkline.edge.http.answer import HttpAnswer, Refused, send_refusal
from trunkline.edge.http.body import PeerLeft, read_body
from trunkline.edge.http.exchange import ExchangeServices
from trunkline.edge.http.http_exchange import Form, HttpExchange
from trunkline.edge.http.request import EVENT_STREAM, accepts, admit, require_json, require_method
from trunkline_protocol.errors import ErrorCode, RpcError

NO_CONTENT: Final = 204
BAD_REQUEST: Final = 400

UNREADABLE: Final = frozenset({ErrorCode.PARSE_ERROR, ErrorCode.INVALID_REQUEST})
"""Codes of the errors for a body that is no valid JSON-RPC request."""

OF_TASKS: Final = {
    "X-Act-As": "act_as",
    "X-Priority": "priority",
    "X-Timeout-Ms": "timeout_ms",
    "Idempotency-Key": "idempotency_key",
    "Idempotency-Epoch": "idempotency_epoch",
}
"""Headers of other doors, refused here: a call's metadata has them, and a body may have many calls."""

_SMALL: Final = 64 * 1024
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


class _Error(msgspec.Struct):
    code: int = 0


class _Outcome(msgspec.Struct):
    error: _Error | None = None


_outcome_decoder: Final = msgspec.json.Decoder(_Outcome)


class RpcForm(Form):
    """JSON-RPC unchanged: the response as the body, or each message as an event."""

    @override
    def answer(self, reply: bytes | None) -> HttpAnswer:
        if reply is None:
            return HttpAnswer(NO_CONTENT)
        return HttpAnswer(BAD_REQUEST if is_unreadable(reply) else 200, reply)

    @override
    def instead(self, reply: bytes) -> HttpAnswer | None:
        return self.answer(reply) if is_unreadable(reply) else None

    @override
    def event(self, message: bytes) -> bytes:
        return b"data: %b\n\n" % one_line(message)


RPC_FORM: Final = RpcForm()


def is_unreadable(reply: bytes) -> bool:
    """Whether a response says that the body was no valid request; a batch is one, whatever is in it."""
    if len(reply) > _SMALL or b'"error":' not in reply or reply.startswith(b"["):
        return False
    error = _outcome_decoder.decode(reply).error
    return error is not None and error.code in UNREADABLE


def one_line(message: bytes) -> bytes:
    """JSON with its line ends replaced by blanks: they would end the line of an event. JSON strings contain none."""
    return message.translate(_LINE_ENDS) if b"\n" in message or b"\r" in message else message


def _require_no_header_of_tasks(headers: Headers) -> None:
    for name, member in OF_TASKS.items():
        if name in headers:
            words = f"header {name} has no effect at /rpc: put it in metadata.{member} of each call"
            raise Refused(RpcError(ErrorCode.INVALID_PARAMS, words), BAD_REQUEST)


class RpcEndpoint:
    """The ASGI application at ``/rpc``.

    Args:
        context: what all connections of the hub share.
        services: see :func:`trunkline.edge.http.exchange.exchange_services`.
    """

    def __init__(self, context: EdgeContext, services: ExchangeServices) -> None:
        self._context = context
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to ``/rpc``."""
        headers = Headers(scope=scope)
        try:
            require_method(scope, "POST")
            principal = await admit(self._context, scope, headers)
            require_json(headers)
            _require_no_header_of_tasks(headers)
            takes_events = accepts(headers, EVENT_STREAM)
            services = self._services.of(takes_events)
            with HttpExchange(self._context, services, principal, scope, takes_events) as exchange:
                body = await read_body(self._context, principal, headers, receive)
                await exchange.run(body, RPC_FORM, receive, send)
        except PeerLeft:
            pass
        except Refused as refused:
            await send_refusal(send, refused)
