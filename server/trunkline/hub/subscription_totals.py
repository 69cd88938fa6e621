"""What a principal's subscriptions, those of all its connections, may cost the hub."""

from __future__ import annotations

from collections import Counter
from typing import Final

from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.match_cost import FREE_TOKENS, MatchCost
from trunkline_protocol.topics import is_wildcard

MATCH_STEPS: Final = 3_072
"""What the patterns of all principals may add to a match, beside the 1,023 steps that need no limit."""

MATCH_STEPS_PER_PRINCIPAL: Final = 384


class _Held:
    """One principal's."""

    __slots__ = ("cost", "long", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.long: Counter[str] = Counter()
        self.cost = MatchCost()


class SubscriptionTotals:
    """Counts them, so that one principal takes neither the hub's memory nor the time of everybody's publications.

    Args:
        max_weight: of one principal; see :func:`weight`.
    """

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._held: dict[str, _Held] = {}
        self._cost = MatchCost()

    def require(self, principal: str, pattern: str) -> None:
        """Make sure that one more subscription fits.

        Raises:
            RpcError: it does not.
        """
        held = self._held.get(principal)
        weighs = 0 if held is None else held.weight
        if weighs + weight(pattern) > self._max_weight:
            raise limit_error(
                "max_subscriptions_per_principal",
                f"the connections of {principal} have subscriptions that count {weighs}; unsubscribe some",
                retry_after_ms=None,
            )

    def add(self, principal: str, pattern: str) -> None:
        """Count a subscription.

        Raises:
            RpcError: matching could take too long with this pattern. It is not counted.
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
                whose = principal if own > MATCH_STEPS_PER_PRINCIPAL else "all principals"
                raise _too_slow(pattern, whose)
        held.long[pattern] += 1

    def remove(self, principal: str, pattern: str) -> None:
        """Count it no more."""
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
    """What a subscription counts: a topic one, a pattern as many as it has tokens."""
    return pattern.count(".") + 1 if is_wildcard(pattern) else 1


def _too_slow(pattern: str, whose: str) -> RpcError:
    return RpcError(
        ErrorCode.RESOURCE_EXHAUSTED,
        f"subscribe: {pattern}: with this, the patterns of {whose} would take too long to match. Subscribe to topics, "
        f"or to patterns of at most {FREE_TOKENS} tokens (a last > not counted): those always fit",
        data={"limit": "match_steps"},
    )
