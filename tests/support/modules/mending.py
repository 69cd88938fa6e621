"""Methods that fail, and declare what is to be done then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trunkline import ErrorCode, RpcError, method


def _failing(marker: str, times: int, error: RpcError) -> int:
    """Count an attempt, and fail the first times."""
    path = Path(marker)
    attempts = len(path.read_text()) + 1 if path.exists() else 1
    path.write_text("x" * attempts)
    if attempts <= times:
        raise error
    return attempts


@method("mending.retry", idempotent=True, recovery=("retry",))
def retry(marker: str, times: int, code: int = ErrorCode.DATABASE_CONNECTION_ERROR, pause_ms: int | None = 1) -> int:
    """Fail so many times."""
    return _failing(marker, times, RpcError(code, "away", retry_after_ms=pause_ms))


@method("mending.once", recovery=("retry",))
def once(marker: str, times: int, ran: bool = True) -> int:
    """As mending.retry, not idempotent."""
    error = RpcError(
        ErrorCode.DATABASE_CONNECTION_ERROR, "away", retry_after_ms=1, maybe_executed=None if ran else False
    )
    return _failing(marker, times, error)


@method("mending.undeclared", idempotent=True)
def undeclared(marker: str, times: int) -> int:
    """As mending.retry, without the declaration."""
    return _failing(marker, times, RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, "away", retry_after_ms=1))


@method("mending.stream", idempotent=True, recovery=("retry",))
def stream(marker: str, times: int) -> Iterator[int]:
    """Fail behind the first chunk."""
    yield 1
    _failing(marker, times, RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, "away", retry_after_ms=1))


@method("mending.restart", idempotent=True, recovery=("restart_worker",))
def restart(broken: int) -> dict[str, Any]:
    """Find the process broken, if it is this one."""
    if os.getpid() == broken:
        raise RpcError(ErrorCode.WORKER_CRASHED, "the device is gone")
    return {"pid": os.getpid()}


@method("mending.pid")
def pid() -> int:
    """The process."""
    return os.getpid()
