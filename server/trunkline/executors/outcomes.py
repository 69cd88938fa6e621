"""What becomes of calls that no executor could run, or bring to an end. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import ModuleFailure, not_loaded
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_ATTEMPTS: Final = 3


def may_run_again(call: Call) -> bool:
    """Whether a call whose executor died may run on another: its input and its chunks cannot be taken back."""
    idempotent = call.info is not None and call.info.idempotent
    begun = call.chunks or (call.input is not None and call.input.begun)
    return idempotent and not begun and call.attempts < MAX_ATTEMPTS


def unknown_method(
    method: str, starting: bool, failures: Iterable[str | None], failed: Collection[ModuleFailure]
) -> RpcError:
    """Nobody serves it; ``starting``: nobody serves anything yet, perhaps because of the failures."""
    if (unloaded := not_loaded(method, failed, alone=starting)) is not None:
        return unloaded
    if starting:
        failure = next((f" ({words})" for words in failures if words), "")
        return RpcError(
            ErrorCode.WORKER_UNAVAILABLE,
            f"{method} is not known yet: the executors are still starting{failure}",
            retry_after_ms=1000,
        )
    return RpcError(ErrorCode.METHOD_NOT_FOUND, f"no method {method!r:.200}; rpc.discover lists what this hub serves")


def crashed(call: Call, *, stopping: bool) -> RpcError:
    """Its executor died; ``stopping``: because the hub is."""
    if stopping:
        words = f"the hub is stopping, and {call.method} was not done in the time it gives"
        return RpcError(ErrorCode.WORKER_CRASHED, words, maybe_executed=True, retry_after_ms=1000)
    tried = f" (attempt {call.attempts})" if call.attempts > 1 else ""
    return RpcError(
        ErrorCode.WORKER_CRASHED,
        f"the executor died while it ran {call.method}{tried}; it is being restarted",
        maybe_executed=True,
        retry_after_ms=1000,
    )


def not_done_in_time(call: Call, seconds: float) -> RpcError:
    """It held a hand-over up."""
    return RpcError(
        ErrorCode.WORKER_UNAVAILABLE,
        f"{call.method} was ended: another executor gets its routing key, and it was not done within {seconds:.3g} s",
        maybe_executed=True,
        retry_after_ms=0,
    )
