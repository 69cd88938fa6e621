"""Limits of what one connection or principal may ask of the hub, and the rate limiter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from trunkline import defaults

MAX_BUCKETS: Final = 65_536
_ROUNDING: Final = 1e-6
"""Seconds; what sums of intervals may differ by."""


@dataclass(slots=True)
class ConnectionLimits:
    """Limits of connections and events: the settings of the same names (SPEC.md, Limits). They may be changed.

    Attributes:
        max_backlog: deliveries (one event to one connection) that may wait for the fan-out.
        max_waiting_events: events that may wait for the fan-out.
        pending_bytes: size limit of a message from a peer that has not authenticated yet.
    """

    max_batch: int = defaults.MAX_BATCH
    max_calls_per_connection: int = defaults.MAX_CALLS_PER_CONNECTION
    max_subscriptions: int = defaults.MAX_SUBSCRIPTIONS
    max_subscriptions_per_principal: int = defaults.MAX_SUBSCRIPTIONS_PER_PRINCIPAL
    max_backlog: int = 1_000_000
    max_waiting_events: int = 16_384
    pending_bytes: int = 16_384


class TokenBucket:
    """A token bucket: ``rate`` tokens a second, at most ``burst`` of them. Pure: the caller has the clock.

    It keeps when it will be full again (the generic cell rate algorithm, ITU-T I.371), which is one number to move.
    """

    __slots__ = ("_full_at", "_interval", "_span", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self._interval = 1.0 / rate
        self._span = burst * self._interval
        self._full_at = now

    def take(self, now: float) -> float:
        """Take a token and return 0.0; without one to take, return the seconds until the next one."""
        full_at = self._full_at
        full_at = (now if full_at < now else full_at) + self._interval
        too_early = full_at - now - self._span
        if too_early > _ROUNDING:
            return too_early
        self._full_at = full_at
        return 0.0

    def wait(self, now: float) -> float:
        """Seconds until there is a token to take; 0.0 where there is one. Takes none."""
        too_early = max(self._full_at, now) + self._interval - now - self._span
        return too_early if too_early > _ROUNDING else 0.0


class Rates:
    """The token buckets that each call of a connection takes from: that of its principal, and that of its tenant.

    Args:
        own: of the principal; None where its rate is not limited.
        whole: of its tenant, likewise.

    Attributes:
        empty: the bucket that had no token when :meth:`take` last returned a wait.
    """

    __slots__ = ("_own", "_whole", "empty")

    def __init__(self, own: TokenBucket | None, whole: TokenBucket | None) -> None:
        self._own = own
        self._whole = whole
        self.empty = own or whole

    @property
    def own_is_empty(self) -> bool:
        """Whether it was the principal's bucket that had no token."""
        return self.empty is self._own

    def take(self, now: float) -> float:
        """Take a token of each and return 0.0; where one has none, take none and return the seconds until its next."""
        own, whole = self._own, self._whole
        if own is None or whole is None:
            return 0.0 if self.empty is None else self.empty.take(now)
        # Each call passes here: two calls of TokenBucket.take, written out.
        own_at, whole_at = own._full_at, whole._full_at
        own_at = (now if own_at < now else own_at) + own._interval
        whole_at = (now if whole_at < now else whole_at) + whole._interval
        if (too_early := own_at - now - own._span) > _ROUNDING:
            self.empty = own
        elif (too_early := whole_at - now - whole._span) > _ROUNDING:
            self.empty = whole
        else:
            own._full_at, whole._full_at = own_at, whole_at
            return 0.0
        return too_early


class RateLimiter:
    """One token bucket per principal and rate, shared by its connections; the least recently used ones are forgotten.
    Tenants have another limiter.

    A principal whose rate was changed gets another bucket with its next connection, or its next ``auth``.
    """

    def __init__(self, rate: float, burst: int = 0) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[tuple[Hashable, float], TokenBucket] = OrderedDict()

    def limit(self, rate: float, burst: int = 0) -> None:
        """Change rate and burst; connections get the new ones with their next :meth:`bucket`."""
        if (rate, burst) != (self._rate, self._burst):
            self._rate, self._burst = rate, burst
            self._buckets.clear()

    def bucket(self, holder: Hashable, rate: float | None, now: float) -> TokenBucket | None:
        """The token bucket of a principal, or None where its rate is not limited.

        Args:
            holder: what tells it from others: its tenant and its name.
            rate: calls a second of this principal; None for the rate of the settings.
        """
        effective = self._rate if rate is None else rate
        if not effective:
            return None
        key = (holder, effective)
        bucket = self._buckets.get(key)
        if bucket is None:
            burst = float(self._burst or max(1.0, effective))
            bucket = self._buckets[key] = TokenBucket(effective, burst, now)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket
