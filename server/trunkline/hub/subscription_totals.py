"""Limits of the subscriptions of one principal, on all its connections: their number, and the cost of matching."""

from __future__ import annotations

from collections import Counter
from typing import Final

from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.match_cost import FREE_TOKENS, MatchCost
from trunkline_protocol.tenants import name_in
from trunkline_protocol.topics import is_wildcard

MATCH_STEPS: Final = 3_072
"""Steps that the patterns of all principals may add to a match, beside the 1,023 that need no limit."""

MATCH_STEPS_PER_PRINCIPAL: Final = 384


class _Held:
    """The counts of one principal."""

    __slots__ = ("cost", "long", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.long: Counter[str] = Counter()
        self.cost = MatchCost()


class SubscriptionTotals:
    """Counts subscriptions, so that one principal exhausts neither the hub's memory nor its time to match topics.

    Args:
        max_weight: limit of the sum of :func:`weight` over the subscriptions of one principal; may be changed.

    Principals are named by their keys (``owner``).
    """

    def __init__(self, max_weight: int) -> None:
        self.max_weight = max_weight
        self._held: dict[str, _Held] = {}
        self._cost = MatchCost()

    def require(self, principal: str, pattern: str) -> None:
        """Check that a principal may have one more subscription.

        Raises:
            RpcError: 2003, ``max_subscriptions_per_principal`` is reached.
        """
        held = self._held.get(principal)
        weighs = 0 if held is None else held.weight
        if weighs + weight(pattern) > self.max_weight:
            raise limit_error(
                "max_subscriptions_per_principal",
                f"the subscriptions of {name_in(principal)}, on all its connections, count {weighs}; unsubscribe some",
                retry_after_ms=None,
            )

    def add(self, principal: str, pattern: str) -> None:
        """Count a subscription.

        Raises:
            RpcError: 2003, matching could take too long with this pattern, which is not counted.
        """
        held = self._held.get(principal) or _Held()
        if MatchCost.counts(pattern):
            self._add_long(held, principal, pattern)
        held.weight += weight(pattern)
        self._held[principal] = held

    def _add_long(self, held: _Held, principal: str, pattern: str) -> None:
        if not held.long[pattern]:
            own, all_of_them = held.cost.add(pattern), self._cost.add(pattern)
            if own > MATCH_STEPS_PER_PRINCIPAL or all_of_them > MATCH_STEPS:
                held.cost.remove(pattern)
                self._cost.remove(pattern)
                whose = name_in(principal) if own > MATCH_STEPS_PER_PRINCIPAL else "all principals"
                raise _too_slow(pattern, whose)
        held.long[pattern] += 1

    def remove(self, principal: str, pattern: str) -> None:
        """Count a subscription no more."""
        held = self._held[principal]
        held.weight -= weight(pattern)
        if MatchCost.counts(pattern):
            held.long[pattern] -= 1
            if not held.long[pattern]:
                del held.long[pattern]
                held.cost.remove(pattern)
                self._cost.remove(pattern)
        if not held.weight:
            del self._held[principal]


def weight(pattern: str) -> int:
    """What a subscription counts for the limit: 1 for a topic, the number of tokens for a pattern."""
    return pattern.count(".") + 1 if is_wildcard(pattern) else 1


def _too_slow(pattern: str, whose: str) -> RpcError:
    return RpcError(
        ErrorCode.RESOURCE_EXHAUSTED,
        f"subscribe: {pattern}: with this, the patterns of {whose} would take too long to match. Subscribe to topics, "
        f"or to patterns of at most {FREE_TOKENS} tokens (a last > not counted): those always fit",
        data={"limit": "match_steps"},
    )
