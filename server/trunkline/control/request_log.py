"""The request log: a line for each call that ends, with principal, method, duration and outcome, without payload."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from trunkline.control.calls_in_flight import connection_of, executor_name, principal_of, tenant_of, trace_id
from trunkline.observe.metrics import error_name
from trunkline_protocol.calls import Call

MAX_METHOD_CHARS: Final = 200

logger = logging.getLogger("trunkline.requests")

Log = Callable[[Call, str | None, float, int], None]


def request_log(wanted: bool) -> Log | None:
    """A function that logs a call: at level info where wanted, else at debug; None where that level is not logged.

    Args:
        wanted: the setting ``log_requests``.
    """
    level = logging.INFO if wanted else logging.DEBUG
    if not logger.isEnabledFor(level):
        return None

    def log(call: Call, _method: str | None, seconds: float, code: int) -> None:
        logger.log(level, "call", extra=_described(call, seconds, code))

    return log


def _described(call: Call, seconds: float, code: int) -> dict[str, str | float | None]:
    connection = connection_of(call)
    said: dict[str, str | float | None] = {
        "method": call.method[:MAX_METHOD_CHARS],
        "outcome": "ok" if not code else error_name(code),
        "code": code,
        "duration_ms": round(1000 * seconds, 3),
        "queue_ms": round(1000 * call.waited, 3),
        "run_ms": round(1000 * call.ran, 3),
        "request_id": call.request_id(),
        "trace_id": trace_id(call),
        "executor": executor_name(call),
    }
    said["principal"], said["tenant"] = principal_of(call), tenant_of(call)
    if connection is not None:
        said["connection"] = connection.number
        said["session"] = None if connection.session is None else connection.session.label
    return {name: value for name, value in said.items() if value is not None}
