"""Where there are several tenants they take turns, and none fills the queue of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.doubles import TenantCall
from trunkline_protocol.backlog import Backlog, QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import RpcError
from trunkline_protocol.tenant_turns import take_turns_by_tenant


def made(limits: QueueLimits = QueueLimits()) -> Backlog[int]:  # noqa: B008
    backlog = Backlog[int](limits, lambda: 70)
    take_turns_by_tenant(backlog, limits)
    return backlog


def served(backlog: Backlog[int], number: int) -> list[str]:
    return [call.tenant for _ in range(number) if (call := backlog.pop(0)) is not None]


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_a_hundred_principals_of_one_tenant_delay_another_by_one_call(priority: int) -> None:
    backlog = made()
    for flow in range(100):
        for _ in range(10):
            backlog.push(TenantCall("acme", flow, priority=0), 0)
    for flow in (1000, 1001):
        for _ in range(10):
            backlog.push(TenantCall("bolt", flow, priority), 0)
    assert served(backlog, 40).count("bolt") == 20


def test_calls_that_wait_already_take_turns_from_then_on() -> None:
    limits = QueueLimits()
    backlog = Backlog[int](limits, lambda: 0)
    first = [TenantCall("acme", flow) for flow in (1, 2, 1)]
    for call in first:
        backlog.push(call, 0)
    take_turns_by_tenant(backlog, limits)
    assert backlog.waiting == 3
    backlog.push(other := TenantCall("bolt"), 0)
    assert [backlog.pop(0) for _ in range(4)] == [first[0], other, first[1], first[2]]
    assert (backlog.waiting, backlog.bytes) == (0, 0)


def test_a_tenant_does_not_fill_the_queue_over_however_many_connections() -> None:
    backlog = made(QueueLimits(calls=100))
    for flow in range(80):
        backlog.push(TenantCall("acme", flow), 0)
    with pytest.raises(RpcError) as caught:
        backlog.push(TenantCall("acme", 81), 0)
    assert (caught.value.data["limit"], caught.value.retry_after_ms) == ("TRUNKLINE_QUEUE_LIMIT", 70)
    assert "your tenant's" in caught.value.message
    for flow in range(90, 100):
        backlog.push(TenantCall("bolt", flow), 0)
    assert backlog.pop(0) is not None
    with pytest.raises(RpcError):
        backlog.push(TenantCall("acme", 81), 0)


def test_a_tenant_does_not_fill_the_bytes_of_the_others() -> None:
    backlog = made(QueueLimits(bytes=1000))
    for flow in range(8):
        backlog.push(TenantCall("acme", flow, params=b"x" * 100), 0)
    with pytest.raises(RpcError) as caught:
        backlog.push(TenantCall("acme", 9, params=b"x" * 100), 0)
    assert caught.value.data["limit"] == "TRUNKLINE_QUEUE_BYTES"
    backlog.push(TenantCall("bolt", 10, params=b"x" * 100), 0)


def test_a_call_whose_connection_became_another_tenants_is_still_found() -> None:
    backlog = made(QueueLimits(calls=100))
    call = TenantCall("acme")
    backlog.push(call, 0)
    call.whose = "bolt"
    assert backlog.remove(call)
    assert not backlog.remove(call)
    for flow in range(80):
        backlog.push(TenantCall("acme", flow), 0)
    assert backlog.waiting == 80


class Model:
    """Tenants in turn, each with the calls of its flows in turn (of one priority)."""

    def __init__(self) -> None:
        self.tenants: list[tuple[str, list[list[Call]]]] = []

    def push(self, call: Call, front: bool) -> None:
        flows = next((flows for tenant, flows in self.tenants if tenant == call.tenant), None)
        if flows is None:
            flows = []
            self.tenants.append((call.tenant, flows))
        flow = next((flow for flow in flows if flow[0].flow == call.flow), None)
        if flow is None:
            flow = []
            flows.append(flow)
        flow.insert(0 if front else len(flow), call)
        if front:
            flows.insert(0, flows.pop(next(place for place, each in enumerate(flows) if each is flow)))
            self.tenants.sort(key=lambda each: each[0] != call.tenant)

    def pop(self) -> Call | None:
        if not self.tenants:
            return None
        tenant, flows = self.tenants.pop(0)
        flow = flows.pop(0)
        call = flow.pop(0)
        if flow:
            flows.append(flow)
        if flows:
            self.tenants.append((tenant, flows))
        return call

    def remove(self, call: Call) -> None:
        flows = next(flows for tenant, flows in self.tenants if tenant == call.tenant)
        flow = next(flow for flow in flows if call in flow)
        flow.remove(call)
        if not flow:
            flows.remove(flow)
        if not flows:
            self.tenants.remove((call.tenant, flows))


moves = st.lists(
    st.tuples(st.sampled_from(["push", "push", "front", "pop", "remove"]), st.sampled_from("abc"), st.integers(0, 3)),
    max_size=80,
)


@given(moves)
def test_turns_against_a_model(steps: list[tuple[str, str, int]]) -> None:
    backlog, model, inside = made(), Model(), list[Call]()
    for name, tenant, flow in steps:
        if name in ("push", "front"):
            call = TenantCall(tenant, flow)
            (backlog.push if name == "push" else backlog.push_front)(call, 0)
            model.push(call, name == "front")
            inside.append(call)
        elif name == "remove" and inside:
            call = inside.pop((ord(tenant) * 31 + flow) % len(inside))  # type: ignore[assignment]
            assert backlog.remove(call)
            model.remove(call)
        elif name == "pop":
            popped = backlog.pop(0)
            assert popped is model.pop()
            if popped is not None:
                inside.remove(popped)
        assert backlog.waiting == len(inside)
        assert backlog.has(0) == bool(inside)
    assert set(backlog.drain()) == set(inside)
    assert (backlog.waiting, backlog.bytes) == (0, 0)


@given(moves)
def test_while_two_tenants_wait_neither_is_passed_over_twice(steps: list[tuple[str, str, int]]) -> None:
    backlog = made()
    waited: dict[str, int] = {}
    tenants: dict[str, int] = {}
    for name, tenant, flow in steps:
        if name == "push":
            backlog.push(TenantCall(tenant, flow, priority=flow % 3), 0)
            tenants[tenant] = tenants.get(tenant, 0) + 1
        elif name == "pop" and (popped := backlog.pop(0)) is not None:
            tenants[popped.tenant] -= 1
            waited[popped.tenant] = 0
            for other, count in tenants.items():
                if count and other != popped.tenant:
                    waited[other] = waited.get(other, 0) + 1
                    assert waited[other] <= len(tenants), "passed over"
                elif not count:
                    waited[other] = 0
