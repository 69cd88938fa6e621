"""Methods that fail for as long as a file is there."""

from __future__ import annotations

from pathlib import Path

from trunkline import ErrorCode, RpcError, method


@method("fickle.ask", idempotent=True)
def ask(broken: str) -> str:
    """An answer, unless the file is there."""
    if Path(broken).exists():
        raise RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, "the store cannot be reached")
    return "well"
