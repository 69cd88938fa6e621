"""What a method's declaration bounds in the hub: calls at once, and calls a second."""

from __future__ import annotations

import pytest

from tests.support.doubles import TenantCall
from trunkline.hub.method_limits import DeclaredLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodLimits
from trunkline_protocol.errors import ErrorCode, RpcError


def admitted(limits: DeclaredLimits, declared: MethodLimits, now: float = 0.0, method: str = "m") -> Call:
    call = Call(method, b"{}")
    limits.admit(call, declared, now)
    return call


def refused(limits: DeclaredLimits, declared: MethodLimits, now: float = 0.0) -> RpcError:
    with pytest.raises(RpcError) as caught:
        admitted(limits, declared, now)
    assert not caught.value.maybe_executed
    return caught.value


def test_so_many_are_in_flight_and_one_that_ends_makes_room() -> None:
    limits, declared = DeclaredLimits(), MethodLimits(max_calls=2)
    first = admitted(limits, declared)
    admitted(limits, declared)
    error = refused(limits, declared)
    assert (error.code, error.retryable, error.retry_after_ms) == (ErrorCode.WORKER_OVERLOADED, True, 200)
    assert "2 calls of m are in flight already" in error.message
    admitted(limits, declared, method="other")
    limits.ended(first)
    admitted(limits, declared)
    refused(limits, declared)


def test_one_that_was_refused_takes_no_place_when_it_ends() -> None:
    limits, declared = DeclaredLimits(), MethodLimits(max_calls=1)
    first, second = admitted(limits, declared), Call("m", b"{}")
    with pytest.raises(RpcError):
        limits.admit(second, declared, 0.0)
    limits.ended(second)
    refused(limits, declared)
    limits.ended(first)
    limits.ended(Call("unknown", b"{}"))
    admitted(limits, declared)


def test_so_many_come_in_a_second_and_the_hint_is_never_too_early() -> None:
    limits, declared = DeclaredLimits(), MethodLimits(rate=4.0)
    for _ in range(4):
        admitted(limits, declared)
    error = refused(limits, declared, 0.1)
    assert (error.code, error.retry_after_ms) == (ErrorCode.RATE_LIMITED, 150)
    assert "m takes 4 calls a second" in error.message
    admitted(limits, declared, 0.1 + 0.150)
    refused(limits, declared, 0.1 + 0.150)


def test_less_than_one_a_second_is_one_at_first() -> None:
    limits, declared = DeclaredLimits(), MethodLimits(rate=0.5)
    admitted(limits, declared)
    refused(limits, declared, 1.9)
    admitted(limits, declared, 2.0)


def test_a_rate_that_is_declared_anew_counts_from_then_on() -> None:
    limits = DeclaredLimits()
    admitted(limits, MethodLimits(rate=1.0))
    refused(limits, MethodLimits(rate=1.0))
    admitted(limits, MethodLimits(rate=10.0))


def test_who_came_too_often_takes_no_place() -> None:
    limits, declared = DeclaredLimits(), MethodLimits(max_calls=2, rate=1.0)
    admitted(limits, declared)
    refused(limits, declared)
    admitted(limits, declared, 1.0)
    assert refused(limits, declared, 2.0).code == ErrorCode.WORKER_OVERLOADED


def test_limits_of_each_tenant_are_used_up_by_it_alone() -> None:
    limits, declared = DeclaredLimits(), MethodLimits(max_calls=1, rate=2.0, per_tenant=True)
    first = TenantCall("acme")
    limits.admit(first, declared, 0.0)
    with pytest.raises(RpcError, match="1 calls of m of your tenant are in flight") as full:
        limits.admit(TenantCall("acme"), declared, 0.0)
    assert full.value.code == ErrorCode.WORKER_OVERLOADED
    with pytest.raises(RpcError, match="of your tenant's callers together") as fast:
        limits.admit(TenantCall("acme"), declared, 0.0)
    assert fast.value.code == ErrorCode.RATE_LIMITED
    limits.admit(TenantCall("bolt"), declared, 0.0)
    first.whose = "bolt"
    limits.ended(first)
    limits.admit(TenantCall("acme"), declared, 1.0)
    with pytest.raises(RpcError):
        limits.admit(TenantCall("bolt"), declared, 1.0)
