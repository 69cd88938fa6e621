"""What a method's declaration bounds in the whole hub: its calls in flight, and its calls a second."""

from __future__ import annotations

from trunkline.hub.limits import TokenBucket
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodLimits
from trunkline_protocol.errors import ErrorCode, RpcError


class DeclaredLimits:
    """Admits the calls of methods that declare limits; other calls do not come by here."""

    def __init__(self) -> None:
        self._in_flight: dict[str, set[Call]] = {}
        self._buckets: dict[str, tuple[float, TokenBucket]] = {}

    def admit(self, call: Call, limits: MethodLimits, now: float) -> None:
        """Count a call, if its method's limits leave room for it.

        Args:
            now: monotonic, in seconds.

        Raises:
            RpcError: 2002, so many are in flight already; 6003, so many came within the second.
        """
        name = call.method
        if limits.rate is not None and (wait := self._bucket(name, limits.rate, now).take(now)):
            raise RpcError(
                ErrorCode.RATE_LIMITED,
                f"{name} takes {limits.rate:g} calls a second, of all callers together (rate of its @method)",
                maybe_executed=False,
                retry_after_ms=1 + int(wait * 1000),  # never too early
            )
        if limits.max_calls is not None:
            in_flight = self._in_flight.setdefault(name, set())
            if len(in_flight) >= limits.max_calls:
                raise RpcError(
                    ErrorCode.WORKER_OVERLOADED,
                    f"{limits.max_calls} calls of {name} are in flight already (max_calls of its @method)",
                    maybe_executed=False,
                    retry_after_ms=200,
                )
            in_flight.add(call)

    def ended(self, call: Call) -> None:
        """Count a call of a method with limits no more, whether it was admitted or not."""
        if (in_flight := self._in_flight.get(call.method)) is not None:
            in_flight.discard(call)

    def _bucket(self, name: str, rate: float, now: float) -> TokenBucket:
        known = self._buckets.get(name)
        if known is None or known[0] != rate:  # the method may have been loaded anew
            known = self._buckets[name] = rate, TokenBucket(rate, max(1.0, rate), now)
        return known[1]
