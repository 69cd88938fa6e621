"""Whether a call that failed is made again, and when. Pure."""

from __future__ import annotations

from typing import Final

from trunkline.client.backoff import Random, full_jitter
from trunkline.client.connection_state import DisconnectedError
from trunkline.client.options import Retry
from trunkline_protocol.errors import RpcError

KEPT: Final = frozenset({"expired", "overflow"})
"""Ends of a session after which it is still the same hub, which knows idempotency keys."""


def is_safe(error: RpcError | DisconnectedError, *, idempotent: bool, keyed: bool) -> bool:
    """Whether the call can be made again without the work being done twice."""
    if not error.maybe_executed or idempotent:
        return True
    if not keyed:
        return False
    # The hub that answered knows the key. After a cut it may be another one that would be asked.
    return isinstance(error, RpcError) or error.reason in KEPT


def retry_delay(
    error: RpcError | DisconnectedError,
    attempt: int,
    retry: Retry | None,
    random: Random,
    *,
    idempotent: bool,
    keyed: bool,
) -> float | None:
    """Seconds after which to make a call again, or None to give up.

    Args:
        error: how it failed.
        attempt: how many attempts were made.
        retry: None for never.
    """
    if retry is None or attempt >= retry.attempts:
        return None
    if isinstance(error, RpcError) and not error.retryable:
        return None
    if not is_safe(error, idempotent=idempotent, keyed=keyed):
        return None
    delay = full_jitter(attempt - 1, retry.base_delay, random, factor=retry.factor)
    hint = error.retry_after_ms if isinstance(error, RpcError) else None
    return delay if hint is None else max(delay, hint / 1000)
