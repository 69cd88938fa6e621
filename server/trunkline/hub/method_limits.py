"""What a method's declaration bounds in the whole hub, or for each tenant: its calls in flight, and a second."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from trunkline.hub.limits import TokenBucket
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodLimits
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_BUCKETS: Final = 65_536
"""Rates of methods, or of tenants' uses of them, that are remembered; the least recently used are forgotten."""

_Key = tuple[str, str | None]
"""A method, and a tenant where each has limits of its own."""


class DeclaredLimits:
    """Admits the calls of methods that declare limits; other calls do not come by here."""

    def __init__(self) -> None:
        self._in_flight: dict[_Key, int] = {}
        self._counted: dict[Call, _Key] = {}
        self._buckets: OrderedDict[_Key, tuple[float, TokenBucket]] = OrderedDict()

    def admit(self, call: Call, limits: MethodLimits, now: float) -> None:
        """Count a call, if its method's limits leave room for it.

        Args:
            now: monotonic, in seconds.

        Raises:
            RpcError: 2002, so many are in flight already; 6003, so many came within the second.
        """
        name = call.method
        key = name, call.tenant if limits.per_tenant else None
        whose = "your tenant's" if limits.per_tenant else "all"
        if limits.rate is not None and (wait := self._bucket(key, limits.rate, now).take(now)):
            raise RpcError(
                ErrorCode.RATE_LIMITED,
                f"{name} takes {limits.rate:g} calls a second, of {whose} callers together (rate of its @method)",
                maybe_executed=False,
                retry_after_ms=1 + int(wait * 1000),  # never too early
            )
        if limits.max_calls is not None:
            in_flight = self._in_flight.get(key, 0)
            if in_flight >= limits.max_calls:
                yours = "of your tenant " if limits.per_tenant else ""
                raise RpcError(
                    ErrorCode.WORKER_OVERLOADED,
                    f"{limits.max_calls} calls of {name} {yours}are in flight already (max_calls of its @method)",
                    maybe_executed=False,
                    retry_after_ms=200,
                )
            self._in_flight[key] = in_flight + 1
            self._counted[call] = key

    def ended(self, call: Call) -> None:
        """Count a call of a method with limits no more, whether it was admitted or not."""
        key = self._counted.pop(call, None)  # of when it came: its connection may be another tenant's by now
        if key is not None:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]

    def _bucket(self, key: _Key, rate: float, now: float) -> TokenBucket:
        known = self._buckets.get(key)
        if known is None or known[0] != rate:  # the method may have been loaded anew
            known = self._buckets[key] = rate, TokenBucket(rate, max(1.0, rate), now)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return known[1]
