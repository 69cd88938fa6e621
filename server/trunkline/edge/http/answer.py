"""HTTP responses ready to send, and the HTTP headers and bodies of errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Send

from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole HTTP response: status, body and headers."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON


class Refused(Exception):
    """Raised for a request that is refused before anything of it reaches the hub.

    Args:
        error: what is wrong.
        status: of HTTP, where another says it better than that of the error's row.
        headers: further ones of the response.
    """

    def __init__(self, error: RpcError, status: int | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = error.row.http_status if status is None else status
        self.headers = headers or {}


def error_headers(error: RpcError) -> dict[str, str]:
    """The HTTP headers of an error: ``Retry-After`` and ``WWW-Authenticate``, where they apply."""
    headers = {}
    if error.code == ErrorCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    return headers


def json_rpc_error(error: RpcError) -> bytes:
    """The JSON-RPC error response, with id null, of an error that belongs to no JSON-RPC request."""
    return jsonrpc.encode_error(b"null", jsonrpc.encode_error_object(error))


async def send_answer(send: Send, answer: HttpAnswer) -> None:
    """Send a whole response."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.body:
        headers.append((b"content-type", answer.content_type.encode("latin-1")))
    if answer.status != 204:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def send_refusal(send: Send, refused: Refused) -> None:
    """Send the response of a refused request, with a JSON-RPC error for a body."""
    headers = error_headers(refused.error) | refused.headers
    await send_answer(send, HttpAnswer(refused.status, json_rpc_error(refused.error), headers))
