"""The one error table: code, name, recovery, HTTP status.

JSON-RPC 2.0 section 5.1 defines -32700 and -32600..-32603; -32800 is the cancelled code of the
Language Server Protocol. The positive codes are the bridge's own and are fixed (SPEC.md, Errors).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Literal

import msgspec

Recovery = Literal["retry", "fallback", "restart_process", "fatal"]

DRAINING: Final = "draining"
"""The member of ``error.data`` that tells the hub is stopping."""


class ErrorCode(IntEnum):
    """Every error code that crosses the wire."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    CANCELLED = -32800
    WORKER_UNAVAILABLE = 1001
    COMMUNICATION_TIMEOUT = 1002
    SERIALIZATION_ERROR = 1003
    WORKER_CRASHED = 2001
    WORKER_OVERLOADED = 2002
    RESOURCE_EXHAUSTED = 2003
    PIPELINE_NOT_FOUND = 3001
    PIPELINE_INITIALIZATION_FAILED = 3002
    PIPELINE_EXECUTION_ERROR = 3003
    INVALID_CONFIGURATION = 4001
    MISSING_DEPENDENCIES = 4002
    DATABASE_CONNECTION_ERROR = 5001
    INSUFFICIENT_RESOURCES = 5002
    UNAUTHENTICATED = 6001
    FORBIDDEN = 6002
    RATE_LIMITED = 6003


class ErrorRow(msgspec.Struct, frozen=True):
    """What a client may conclude from a code.

    ``retryable`` says that the same call may succeed later. Whether sending it again is *safe* is a
    property of the single error: its ``maybe_executed``.
    """

    code: int
    name: str
    recovery: Recovery
    retryable: bool
    http_status: int


def _row(code: ErrorCode, recovery: Recovery, retryable: bool, http_status: int) -> tuple[int, ErrorRow]:
    return int(code), ErrorRow(int(code), code.name, recovery, retryable, http_status)


ERROR_TABLE: Final[dict[int, ErrorRow]] = dict(
    [
        _row(ErrorCode.PARSE_ERROR, "fatal", False, 400),
        _row(ErrorCode.INVALID_REQUEST, "fatal", False, 400),
        _row(ErrorCode.METHOD_NOT_FOUND, "fatal", False, 404),
        _row(ErrorCode.INVALID_PARAMS, "fatal", False, 422),
        _row(ErrorCode.INTERNAL_ERROR, "fatal", False, 500),
        _row(ErrorCode.CANCELLED, "fatal", False, 499),
        _row(ErrorCode.WORKER_UNAVAILABLE, "retry", True, 503),
        _row(ErrorCode.COMMUNICATION_TIMEOUT, "retry", True, 504),
        _row(ErrorCode.SERIALIZATION_ERROR, "fatal", False, 500),
        _row(ErrorCode.WORKER_CRASHED, "restart_process", True, 502),
        _row(ErrorCode.WORKER_OVERLOADED, "retry", True, 503),
        _row(ErrorCode.RESOURCE_EXHAUSTED, "retry", True, 503),
        _row(ErrorCode.PIPELINE_NOT_FOUND, "fallback", False, 404),
        _row(ErrorCode.PIPELINE_INITIALIZATION_FAILED, "fallback", False, 500),
        _row(ErrorCode.PIPELINE_EXECUTION_ERROR, "fallback", False, 500),
        _row(ErrorCode.INVALID_CONFIGURATION, "fatal", False, 400),
        _row(ErrorCode.MISSING_DEPENDENCIES, "fatal", False, 501),
        _row(ErrorCode.DATABASE_CONNECTION_ERROR, "retry", True, 503),
        _row(ErrorCode.INSUFFICIENT_RESOURCES, "retry", True, 507),
        _row(ErrorCode.UNAUTHENTICATED, "fatal", False, 401),
        _row(ErrorCode.FORBIDDEN, "fatal", False, 403),
        _row(ErrorCode.RATE_LIMITED, "retry", True, 429),
    ]
)

_UNKNOWN = ErrorRow(0, "APPLICATION_ERROR", "fatal", False, 500)


class RpcError(Exception):
    """A typed error, on its way to a caller or just received from the hub.

    Args:
        code: a row of the table; other integers are carried as application errors.
        message: what was wrong, where, and what to do.
        maybe_executed: whether the work may have run (in whole or in part). A method that has begun may say False where
            it has done nothing yet; where it does not say, True is told.
        retry_after_ms: a hint for retryable errors, in milliseconds.
        data: further members of ``error.data``.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        maybe_executed: bool | None = None,
        retry_after_ms: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = message
        self.maybe_executed = bool(maybe_executed)
        self.nothing_ran = maybe_executed is False
        self.retry_after_ms = retry_after_ms
        self.data = data or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (RpcError.from_wire, (self.to_wire(),))

    @property
    def row(self) -> ErrorRow:
        """The table's row for this code."""
        return ERROR_TABLE.get(self.code, _UNKNOWN)

    @property
    def name(self) -> str:
        """The code's name, for example ``WORKER_CRASHED``."""
        return self.row.name

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.row.retryable

    def __str__(self) -> str:
        return f"{self.message} ({self.name} {self.code})"

    def to_wire(self) -> dict[str, Any]:
        """The JSON-RPC error object: ``{code, message, data}``."""
        row = self.row
        data: dict[str, Any] = {
            "type": row.name,
            "recovery": row.recovery,
            "retryable": row.retryable,
            "maybe_executed": self.maybe_executed,
        }
        if self.retry_after_ms is not None:
            data["retry_after_ms"] = self.retry_after_ms
        data.update(self.data)
        return {"code": self.code, "message": self.message, "data": data}

    @classmethod
    def from_wire(cls, error: Any) -> RpcError:
        """Read a JSON-RPC error object from any peer, however incomplete it is."""
        if not isinstance(error, dict):
            return cls(ErrorCode.INTERNAL_ERROR, f"the peer sent an error that is no object: {error!r:.200}")
        data = error.get("data")
        extra = dict(data) if isinstance(data, dict) else ({} if data is None else {"value": data})
        for derived in ("type", "recovery", "retryable"):
            extra.pop(derived, None)
        retry_after = extra.pop("retry_after_ms", None)
        code = error.get("code")
        return cls(
            code if type(code) is int else ErrorCode.INTERNAL_ERROR,
            str(error.get("message", "")),
            maybe_executed=bool(extra.pop("maybe_executed", False)) or None,  # somebody else's word
            retry_after_ms=retry_after if isinstance(retry_after, int) else None,
            data=extra,
        )


def draining_error(*, maybe_executed: bool = False) -> RpcError:
    """The error (1001) by which a stopping hub refuses new work (SPEC.md, Stopping and restarting)."""
    return RpcError(
        ErrorCode.WORKER_UNAVAILABLE,
        "the hub is stopping; connect again",
        maybe_executed=maybe_executed,
        retry_after_ms=1000,
        data={DRAINING: True},
    )


def is_draining(error: Any) -> bool:
    """Whether an error object of the wire says that the hub is stopping and that the work was not begun."""
    data = error.get("data") if isinstance(error, dict) else None
    return isinstance(data, dict) and data.get(DRAINING) is True and data.get("maybe_executed") is False


def is_not_yet(error: RpcError) -> bool:
    """Whether the hub cannot take the work yet, because executors start: it was not begun, and may be asked for again.

    A circuit breaker that is open says when to ask again, too, but not that it will be otherwise then.
    """
    return (
        error.code == ErrorCode.WORKER_UNAVAILABLE
        and not error.maybe_executed
        and error.retry_after_ms is not None
        and "breaker" not in error.data
    )


def limit_error(
    setting: str,
    words: str,
    *,
    code: ErrorCode = ErrorCode.RESOURCE_EXHAUSTED,
    retry_after_ms: int | None = 1000,
) -> RpcError:
    """The error for a limit that is reached (SPEC.md, Limits).

    Args:
        setting: the setting's name without prefix, for example ``max_calls``, or the path of one that is in the
            configuration file alone, for example ``groups.gpu.queue_limit``.
        words: what is full, with the number, and what to do.
    """
    name = setting if "." in setting else f"TRUNKLINE_{setting.upper()}"
    return RpcError(code, f"{words} ({name})", retry_after_ms=retry_after_ms, data={"limit": name})
