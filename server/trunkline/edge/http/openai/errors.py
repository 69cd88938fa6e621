"""Errors as OpenAI's API has them, with what its clients need in order to try again, or not to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from trunkline.edge.http.answer import HttpAnswer, Refused, error_headers
from trunkline_protocol.errors import ErrorCode, RpcError

BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
SERVER_ERROR: Final = 500

_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Final[dict[int, str]] = {
    ErrorCode.UNAUTHENTICATED: "invalid_api_key",
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
}
_OF_PARAMS: Final = {
    "query": "messages",
    "history": "messages",
    "pipeline_id": "model",
    "conversation_id": "trunkline.conversation_id",
}
"""Members of a request, by the params that they become."""

_ABSENT: Final = {"conversation": ("conversation_not_found", "trunkline.conversation_id")}
"""Code and member of the request of what there is not, by ``data.no_such``; all else is the model."""

_PARAM: Final = re.compile(r"[\w.]+: ([a-z_]+)((?:[.\[][\w\]]+)*)(?=[: ])", re.ASCII)
"""The beginning of a message about a param: method, param, place in it."""

_encode: Final = msgspec.json.Encoder().encode


def bad_request(param: str, words: str) -> Refused:
    """The refusal (400) of a member of a request."""
    error = RpcError(ErrorCode.INVALID_PARAMS, f"{param}: {words}", data={"param": param})
    return Refused(error, BAD_REQUEST)


def no_model(name: str) -> RpcError:
    """The error of a name that is no model."""
    words = f"there is no model {name!r:.200}; GET /v1/models lists them"
    return RpcError(ErrorCode.INVALID_CONFIGURATION, words, data={"no_such": "model"})


def status_of(error: RpcError) -> int:
    """The HTTP status of an error, as clients of OpenAI know it."""
    if "no_such" in error.data:
        return NOT_FOUND
    return BAD_REQUEST if error.code == ErrorCode.INVALID_PARAMS else error.row.http_status


def error_body(error: RpcError, status: int | None = None) -> bytes:
    """``{"error": {message, type, param, code}}``, with the JSON-RPC error object as ``trunkline``.

    Args:
        status: of HTTP, where another says it better than that of the error's row.
    """
    status = status_of(error) if status is None else status
    kind = _TYPES.get(status, "server_error" if status >= SERVER_ERROR else "invalid_request_error")
    code = _absent(error)[0] if "no_such" in error.data else _CODES.get(error.code, error.name.lower())
    details: dict[str, Any] = {"message": error.message, "type": kind, "param": param_of(error), "code": code}
    return _encode({"error": details | {"trunkline": error.to_wire()}})


def _absent(error: RpcError) -> tuple[str, str]:
    return _ABSENT.get(error.data["no_such"], ("model_not_found", "model"))


def param_of(error: RpcError) -> str | None:
    """The member of a request that an error is about."""
    if "no_such" in error.data:
        return _absent(error)[1]
    if isinstance(given := error.data.get("param"), str):
        return given
    if error.code != ErrorCode.INVALID_PARAMS or (found := _PARAM.match(error.message)) is None:
        return None
    return _OF_PARAMS.get(found[1], found[1] + found[2])


def error_answer(error: RpcError, headers: Mapping[str, str], status: int | None = None) -> HttpAnswer:
    """An error as a whole response.

    The clients try again by themselves after 408, 409, 429 and 5xx: they are told where that may do the work twice.

    Args:
        headers: further ones of the response.
    """
    status = status_of(error) if status is None else status
    again = {"X-Should-Retry": "true" if error.retryable and not error.maybe_executed else "false"}
    if error.retry_after_ms is not None:
        again["Retry-After-Ms"] = str(error.retry_after_ms)
    return HttpAnswer(status, error_body(error, status), error_headers(error) | again | dict(headers))
