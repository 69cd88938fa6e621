"""Back-off and retries: which calls are made again, and how long to wait before the next attempt. Pure.

Jitter: each client waits a random part of a bound that grows, so that clients that were cut off at the same moment
do not reconnect at the same moment (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trunkline.client.connection_state import DisconnectedError
from trunkline_protocol.errors import RpcError

Random = Callable[[], float]
"""Returns a number uniform in [0, 1), as :func:`random.random`."""

LONGEST: Final = 60.0
"""The default limit of a wait, in seconds."""

IDEMPOTENCY: Final = "idempotency"
"""The member of ``error.data`` that says why a key does not lead to an outcome."""


class NoConnectionError(RpcError):
    """The error of a call that could not be sent at all in the time that it had: nobody waits once more."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Back-off between attempts to connect: a random part of the time that the hub has been away.

    Attributes:
        min_delay: that time counts as this much at least, in seconds.
        max_delay: and as this much at most.
    """

    min_delay: float = 0.5
    max_delay: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.min_delay <= self.max_delay:
            raise ValueError("Reconnect: min_delay must be above 0 and not above max_delay")


@dataclass(frozen=True, slots=True)
class Retry:
    """Policy for retrying a call: how many attempts, and a random wait between them up to a bound that grows.

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


@dataclass(frozen=True, slots=True)
class Repeats:
    """Which failures of a call are followed by another attempt.

    Attributes:
        retry: how often; None for never.
        idempotent: whether the call may be made again although it may have run.
        keyed: whether the call has an idempotency key, which the same hub recognises.
    """

    retry: Retry | None
    idempotent: bool = False
    keyed: bool = False


ONCE: Final = Repeats(None)


def pause(away: float, policy: Reconnect, random: Random) -> float:
    """Seconds to wait before the next attempt to connect, after an outage of ``away`` seconds so far.

    A random part of it: nobody is away for more than twice as long as the hub, and who has had several failures early
    has not spent its short waits.
    """
    return random() * min(max(away, policy.min_delay), policy.max_delay)


def full_jitter(attempt: int, base: float, random: Random, *, factor: float = 2.0, cap: float = LONGEST) -> float:
    """Seconds to wait before the next attempt: random, up to a bound that grows.

    Args:
        attempt: how many waits there were before this one.
        base: bound of the first wait, in seconds.
        factor: by which the bound grows with each wait.
        cap: limit of the bound, in seconds.
    """
    try:
        bound = base * factor**attempt
    except OverflowError:
        bound = cap
    return random() * min(cap, bound)


def is_safe(error: RpcError | DisconnectedError, repeats: Repeats, *, has_epoch: bool = False) -> bool:
    """Whether a call can be made again without its method running twice, or may run twice."""
    if not error.maybe_executed or repeats.idempotent:
        return True
    if not repeats.keyed:
        return False
    # The hub that answered knows the key, or says that it does not. After a lost connection the next hub may be another
    # one: it has to be told the epoch, so that it can refuse.
    return IDEMPOTENCY not in error.data if isinstance(error, RpcError) else has_epoch


def retry_delay(
    error: RpcError | DisconnectedError, attempt: int, repeats: Repeats, random: Random, *, has_epoch: bool = False
) -> float | None:
    """Seconds after which to make a call again; None to give up.

    Args:
        error: of the last attempt.
        attempt: how many attempts were made.
        has_epoch: whether the next attempt names the epoch of the hub that knows the key.
    """
    retry = repeats.retry
    if retry is None or attempt >= retry.attempts:
        return None
    if isinstance(error, RpcError) and (not error.retryable or isinstance(error, NoConnectionError)):
        return None
    if not is_safe(error, repeats, has_epoch=has_epoch):
        return None
    delay = full_jitter(attempt - 1, retry.base_delay, random, factor=retry.factor)
    hint = error.retry_after_ms if isinstance(error, RpcError) else None
    return delay if hint is None else max(delay, hint / 1000)
