"""Circuit breakers, by themselves: when one opens, what it lets through, and when it closes."""

from __future__ import annotations

import pytest

from tests.support.doubles import TenantCall
from trunkline.hub.breaker import BreakerLimits, Breakers, Counts
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

LIMITS = BreakerLimits(ratio=0.5, window=10, calls=10, seconds=5, probes=2)


def call(method: str = "m", tenant: str = "default") -> Call:
    return TenantCall(tenant, method=method)


def opened(counts: Counts | None = None, limits: BreakerLimits = LIMITS) -> Breakers:
    breakers = Breakers(limits)
    breakers.look(0.0, counts or {"m": (10, 10)})
    return breakers


def probe(breakers: Breakers, now: float, method: str = "m", tenant: str = "default") -> Call:
    probing = call(method, tenant)
    breakers.admit(probing, method, now)
    return probing


def refusal(breakers: Breakers, now: float, tenant: str = "default") -> RpcError:
    with pytest.raises(RpcError) as caught:
        breakers.admit(call(tenant=tenant), "m", now)
    return caught.value


@pytest.mark.parametrize(
    ("counts", "is_open"),
    [((10, 5), True), ((10, 4), False), ((9, 9), False), ((1000, 499), False), ((1000, 500), True)],
)
def test_it_opens_at_the_ratio_once_there_were_enough_calls(counts: tuple[int, int], is_open: bool) -> None:
    assert ("m" in opened({"m": counts, "other": (50, 0)}).tripped) is is_open


def test_the_window_slides() -> None:
    breakers = Breakers(LIMITS)
    for second in range(9):
        breakers.look(float(second), {"m": (1, 1)})
    assert not breakers.tripped
    breakers.look(30.0, {"m": (5, 5)})
    assert not breakers.tripped, "the others were long before"
    breakers.look(31.0, {"m": (5, 5)})
    assert "m" in breakers.tripped
    assert "10 of its 10 calls failed within 10 s" in refusal(breakers, 31.0).message


def test_while_open_it_refuses_and_says_until_when() -> None:
    breakers = opened()
    error = refusal(breakers, 1.0)
    assert (error.code, error.maybe_executed, error.retryable) == (ErrorCode.WORKER_UNAVAILABLE, False, True)
    assert (error.retry_after_ms, error.data["breaker"]) == (4000, "open")
    assert breakers.states(1.0) == {"m": "open"}


def test_half_open_lets_so_many_through_and_closes_when_all_succeed() -> None:
    breakers = opened()
    first, second = probe(breakers, 5.0), probe(breakers, 5.0)
    assert refusal(breakers, 5.0).data["breaker"] == "half_open"
    breakers.ended(first, 0, 5.1)
    assert refusal(breakers, 5.1).retry_after_ms is not None, "two have to succeed, and one is on its way"
    breakers.ended(call(), 0, 5.1)
    assert "m" in breakers.tripped, "a call from before is no probe"
    breakers.ended(second, 0, 5.2)
    assert not breakers.tripped
    breakers.look(6.0, {"m": (4, 4)})
    assert not breakers.tripped, "what was counted before it opened is over"


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    breakers = opened()
    first, second = probe(breakers, 5.0), probe(breakers, 5.0)
    breakers.ended(first, ErrorCode.INTERNAL_ERROR, 6.0)
    assert refusal(breakers, 6.0).retry_after_ms == 10_000
    breakers.ended(second, 0, 6.5)
    assert breakers.states(6.5) == {"m": "open"}, "it began before"
    third, fourth = probe(breakers, 16.0), probe(breakers, 16.0)
    breakers.ended(third, 0, 17.0)
    breakers.ended(fourth, 1234, 17.0)
    assert not breakers.tripped, "an error of the method's own is an answer"


def test_a_probe_that_says_nothing_of_the_method_makes_room_for_another() -> None:
    breakers = opened()
    for code in (ErrorCode.INVALID_PARAMS, ErrorCode.CANCELLED, ErrorCode.WORKER_OVERLOADED) * 3:
        breakers.ended(probe(breakers, 5.0), code, 5.0)
    assert breakers.states(5.0) == {"m": "half_open"}


def test_without_a_ratio_there_are_none_and_open_ones_close() -> None:
    assert not opened(limits=BreakerLimits()).tripped
    breakers = opened()
    breakers.limits = BreakerLimits()
    breakers.look(1.0, {})
    assert not breakers.tripped


# --- several tenants ---


def judged(**tenants: tuple[int, int]) -> Breakers:
    breakers = Breakers(LIMITS)
    calls, failed = (sum(each) for each in zip(*tenants.values(), strict=True))
    breakers.look(0.0, {"m": (calls, failed)}, {"m": tenants})
    return breakers


def test_what_one_tenant_makes_fail_is_not_refused_to_the_others() -> None:
    breakers = judged(acme=(100, 100), bolt=(4, 0), default=(1, 0))
    assert breakers.states(1.0) == {"acme\nm": "open"}
    assert "m for tenant acme" in breakers.words(1.0)["acme\nm"]
    assert refusal(breakers, 1.0, "acme").data["breaker"] == "open"
    for other in ("bolt", "default"):
        probe(breakers, 1.0, tenant=other)


def test_of_those_who_name_no_tenant_it_is_one_tenants_too() -> None:
    breakers = judged(default=(100, 100), bolt=(4, 0))
    refusal(breakers, 1.0)
    probe(breakers, 1.0, tenant="bolt")


def test_it_opens_for_all_where_it_fails_whichever_tenant_is_left_out() -> None:
    breakers = judged(acme=(6, 6), bolt=(6, 6))
    assert not breakers.tripped, "six calls of either are not enough"
    breakers.look(1.0, {"m": (6, 6)}, {"m": {"city": (6, 6)}})
    assert breakers.states(1.0) == {"m": "open"}
    for tenant in ("acme", "somebody"):
        refusal(breakers, 1.0, tenant)


def test_a_tenants_breaker_closes_by_its_own_probes() -> None:
    breakers = judged(acme=(100, 100), bolt=(100, 0))
    of_acme = [probe(breakers, 5.0, tenant="acme") for _ in range(2)]
    breakers.ended(probe(breakers, 5.0, tenant="bolt"), 0, 5.0)
    assert breakers.tripped
    for each in of_acme:
        each.whose = "bolt"  # type: ignore[attr-defined]  # its connection has become another's meanwhile
        breakers.ended(each, 0, 5.0)
    assert not breakers.tripped
    breakers.look(6.0, {"m": (1, 1)}, {"m": {"acme": (1, 1)}})
    assert not breakers.tripped, "what was counted before it opened is over"


def test_a_tenants_breaker_that_nobody_tries_is_forgotten() -> None:
    breakers = judged(acme=(100, 100), bolt=(1, 0))
    breakers.look(300.0, {})
    assert breakers.tripped
    breakers.look(306.0, {})
    assert not breakers.tripped
