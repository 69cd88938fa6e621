"""The request id of each HTTP request: its caller's, or one of the hub's; every answer repeats it."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.edge.http.answer import Refused
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.request_ids import MAX_CHARS, is_request_id, request_id_for

REQUEST_ID: Final = "X-Request-Id"
_KEY: Final = "trunkline.request_id"
_HEADER: Final = REQUEST_ID.lower().encode()


def named_requests(app: ASGIApp) -> ASGIApp:
    """The application, with a request id for each request (:func:`request_id_of`) and in each answer's headers.

    What is no request id is replaced, never repeated.
    """

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope[_KEY] = request_id_for(Headers(scope=scope).get(REQUEST_ID))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id.encode())]
            await send(message)

        await app(scope, receive, answer)

    return named


def request_id_of(scope: Scope) -> str:
    """The id of a request, from :func:`named_requests`."""
    request_id: str = scope[_KEY]
    return request_id


def require_request_id(headers: Headers) -> None:
    """Refuse (-32602) a request with a call whose id would be replaced: its caller could not find it by that.

    Raises:
        Refused: the header is no request id.
    """
    given = headers.get(REQUEST_ID)
    if given is not None and not is_request_id(given):
        words = f"header {REQUEST_ID} has to be 1 to {MAX_CHARS} printable ASCII characters"
        raise Refused(RpcError(ErrorCode.INVALID_PARAMS, words))
