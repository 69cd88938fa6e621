"""What is tried again, connections and calls, and how long is waited before. Pure.

Full jitter: everybody waits a random part of a bound that grows, so that those who were cut off at the same moment do
not come back in the same moment (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trunkline.client.connection_state import DisconnectedError
from trunkline_protocol.errors import RpcError

Random = Callable[[], float]
"""Uniform in [0, 1), as :func:`random.random`."""

LONGEST: Final = 60.0
"""Seconds that no wait exceeds where nobody says otherwise."""

KEPT: Final = frozenset({"expired", "overflow"})
"""Ends of a session after which it is still the same hub, which knows idempotency keys."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long to wait before the next attempt: a random time up to a bound that doubles, "full jitter".

    Attributes:
        min_delay: bound of the first wait, in seconds.
        max_delay: what the bound grows to.
    """

    min_delay: float = 0.5
    max_delay: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.min_delay <= self.max_delay:
            raise ValueError("Reconnect: min_delay must be above 0 and not above max_delay")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call that may be repeated is made, and how long to wait in between: random up to a bound that grows.

    Attributes:
        attempts: in all, the first included.
        base_delay: bound of the first wait, in seconds.
        factor: by which the bound grows with each attempt.
    """

    attempts: int = 3
    base_delay: float = 1.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_delay < 0 or self.factor < 1:
            raise ValueError("Retry: attempts and factor must be 1 or more, base_delay 0 or more")


def full_jitter(attempt: int, base: float, random: Random, *, factor: float = 2.0, cap: float = LONGEST) -> float:
    """Seconds to wait.

    Args:
        attempt: how many waits there were before this one.
        base: bound of the first wait, in seconds.
        cap: what the bound never exceeds.
    """
    try:
        bound = base * factor**attempt
    except OverflowError:
        bound = cap
    return random() * min(cap, bound)


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
