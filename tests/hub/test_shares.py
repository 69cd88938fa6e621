"""What a principal, a tenant and an address has of the hub: reached, refused by name, others unaffected, given back."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.hub.test_limits import Rig, refused
from tests.support.match import require
from trunkline.hub.principal import ANONYMOUS, PENDING, Principal
from trunkline.hub.shares import Seat, Share, ShareLimits, Shares, address_of
from trunkline_protocol.errors import ErrorCode, RpcError

ANN: Final = Principal("ann", tenant="acme")
BEN: Final = Principal("ben", tenant="acme")
OTHER_ANN: Final = Principal("ann", tenant="other")


# --- addresses ---


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("127.0.0.2:5000", "127.0.0.2"),
        ("10.1.2.3:0", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1:443", "2001:db8:1:3::/64"),
        ("fe80::1%eth0:443", "fe80::/64"),
        ("::1:443", "::/64"),
        ("::ffff:192.0.2.7:443", "192.0.2.7"),
        ("unix", None),
        ("unix:1234", None),
        ("stdio", None),
        ("", None),
    ],
)
def test_what_counts_as_one_address(peer: str, address: str | None) -> None:
    assert address_of(peer) == address


# --- connections ---


def seat(shares: Shares, principal: Principal, peer: str = "unix") -> Seat:
    """One more connection, as a door takes it in."""
    shares.require_address(peer)
    shares.require_connection(principal)
    return Seat(shares.of(principal), shares.of_address(peer))


Who = tuple[Principal, str]
FIRST, SECOND, THIRD = "10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"
V6, NEIGHBOUR, ELSEWHERE = "2001:db8::1:1", "2001:db8::2:1", "2001:db8:0:1::1:1"

CONNECTIONS: Final[list[tuple[str, str, str, Who, Who, Who]]] = [
    # the limit, whose it is, its name, two that share it, another one
    ("max_connections_per_principal", "principal", "ann", (ANN, FIRST), (ANN, THIRD), (BEN, "unix")),
    ("max_connections_per_principal", "principal", "ann", (ANN, "unix"), (ANN, "unix"), (OTHER_ANN, "unix")),
    ("max_connections_per_tenant", "tenant", "acme", (ANN, "unix"), (BEN, FIRST), (OTHER_ANN, FIRST)),
    ("max_connections_per_address", "address", "10.0.0.1", (ANN, FIRST), (OTHER_ANN, SECOND), (ANN, THIRD)),
    ("max_connections_per_address", "address", "2001:db8::/64", (ANN, V6), (BEN, NEIGHBOUR), (ANN, ELSEWHERE)),
]


@pytest.mark.parametrize(("limit", "of", "name", "one", "two", "another"), CONNECTIONS)
def test_connections_of_one_holder(
    limit: str,
    of: str,
    name: str,
    one: tuple[Principal, str],
    two: tuple[Principal, str],
    another: tuple[Principal, str],
) -> None:
    shares = Shares(ShareLimits(**{limit: 2}))
    first, second = seat(shares, *one), seat(shares, *two)
    for who in (one, two):
        with pytest.raises(RpcError, match=f"{of} {name} has 2 connections open, and may have 2") as refusal:
            seat(shares, *who)
        error = refusal.value.to_wire()
        setting = f"TRUNKLINE_{limit.upper()}"
        require({"type": "RESOURCE_EXHAUSTED", "limit": setting, "of": of, "max": 2}, error["data"])
        assert setting in error["message"]
    others = [seat(shares, *another), seat(shares, *another)]
    first.release()
    again = seat(shares, *two)
    for each in (second, again, *others):
        each.release()
    assert [each.connections for each in holders(shares)] == [0] * len(holders(shares))


def holders(shares: Shares) -> list[Share]:
    return [*shares._principals.values(), *shares._tenants.values(), *shares._addresses.values()]


def test_who_has_nothing_is_forgotten() -> None:
    shares = Shares()
    seats = [seat(shares, Principal(f"p{n}", tenant=f"t{n}"), f"10.0.{n % 250}.{n // 250}:1") for n in range(1000)]
    assert len(holders(shares)) == 3000
    for each in seats:
        each.release()
    del seats, each
    assert holders(shares) == []


def test_a_lowered_limit_refuses_what_comes_and_keeps_what_is() -> None:
    shares = Shares()
    kept = [seat(shares, ANN) for _ in range(5)]
    shares.limits.max_connections_per_principal = 2
    with pytest.raises(RpcError, match="has 5 connections open, and may have 2"):
        seat(shares, ANN)
    for each in kept[:4]:
        each.release()
    seat(shares, ANN)


def test_peers_without_credentials_share_nothing() -> None:
    shares = Shares(ShareLimits(max_connections_per_principal=1, max_connections_per_tenant=1))
    kept = [seat(shares, PENDING, "10.0.0.1:1") for _ in range(3)]
    own = shares.of(ANN)
    kept[0].move(own)
    assert own.connections == own.tenant.connections == 1
    with pytest.raises(RpcError, match="principal ann"):
        shares.require_connection(ANN)
    kept[0].release()
    assert own.connections == own.tenant.connections == 0
    address = shares.of_address("10.0.0.1:1")
    assert address is not None
    assert address.connections == 2


# --- calls ---


def rig_of(**limits: int) -> Rig:
    rig = Rig()
    rig.services.shares.limits = ShareLimits(**limits)
    return rig


def too_many(limit: str, of: str, most: float, code: ErrorCode = ErrorCode.RESOURCE_EXHAUSTED) -> dict[str, Any]:
    expected = refused(code, f"TRUNKLINE_{limit.upper()}")
    expected["error"]["data"] |= {"of": of, "max": most}
    return expected


CALLS: Final = [
    ("max_calls_per_principal", "principal", ANN, ANN, BEN),
    ("max_calls_per_principal", "principal", ANN, ANN, OTHER_ANN),
    ("max_calls_per_tenant", "tenant", ANN, BEN, OTHER_ANN),
]


@pytest.mark.parametrize(("limit", "of", "first", "second", "another"), CALLS)
async def test_calls_in_flight_of_one_holder(
    limit: str, of: str, first: Principal, second: Principal, another: Principal
) -> None:
    rig = rig_of(**{limit: 2})
    one, two, other = rig.peer(first), rig.peer(second), rig.peer(another)
    assert one.call() is None
    two.notify()
    for peer in (one, two):
        require(too_many(limit, of, 2), peer.call())
        peer.notify()
    assert [other.call(), other.call()] == [None, None], "another's are its own"
    assert len(rig.backend.calls) == 4
    rig.backend.calls[0].settle_result(b"0")
    assert two.call() is None
    rig.backend.calls[1].settle_error(RpcError(ErrorCode.INTERNAL_ERROR, "it failed"))
    assert one.call() is None
    require(too_many(limit, of, 2), two.call())
    assert rig.services.shares.refused.counts == {f"TRUNKLINE_{limit.upper()}": 5}


def ended(rig: Rig, peer: Any, how: str) -> None:
    """Make a call, and end it in one of the ways in which a call ends."""
    peer.call()
    call, number = rig.backend.calls[-1], peer.number
    if how == "result":
        call.settle_result(b"0")
    elif how == "error":
        call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, "it failed"))
    elif how == "cancelled":
        peer.receive({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": number}})
    elif how == "cancelled silently":
        peer.receive({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})
    else:
        peer.connection.disconnected()


@pytest.mark.parametrize("how", ["result", "error", "cancelled", "cancelled silently", "the peer is gone"])
@pytest.mark.parametrize("limits", [{}, {"max_calls_per_principal": 3}, {"max_calls_per_tenant": 3}], ids=str)
async def test_whatever_ends_a_call_gives_it_back(how: str, limits: dict[str, int]) -> None:
    rig = rig_of(**limits)
    share = rig.services.shares.of(ANN)
    for _ in range(50):
        ended(rig, rig.peer(ANN), how)
        assert (share.calls, share.tenant.calls) == (0, 0)


async def test_a_call_that_is_refused_is_counted_while_it_is_answered_only() -> None:
    rig = rig_of(max_calls_per_principal=1)
    peer, share = rig.peer(ANN), rig.services.shares.of(ANN)
    peer.call()
    for _ in range(20):
        require(too_many("max_calls_per_principal", "principal", 1), peer.call())
        require(too_many("max_calls_per_principal", "principal", 1), peer.call("hub.now"))
    assert share.calls == 1


async def test_calls_move_with_the_connection_to_its_principal() -> None:
    rig = rig_of(max_calls_per_principal=2)
    peer = rig.peer(ANN)
    peer.call()
    peer.notify()
    peer.connection.become(BEN)
    shares = rig.services.shares
    assert (shares.of(ANN).calls, shares.of(BEN).calls) == (0, 2)
    for call in rig.backend.calls:
        call.settle_result(b"0")
    assert shares.of(BEN).calls == 0


async def test_without_limits_nobody_is_refused_and_everything_is_counted() -> None:
    rig = Rig()
    peers = [rig.peer(ANONYMOUS) for _ in range(20)]
    for peer in peers:
        assert [peer.call() for _ in range(20)] == [None] * 20
    assert rig.services.shares.of(ANONYMOUS).calls == 400
    for peer in peers:
        peer.connection.disconnected()
    assert rig.services.shares.of(ANONYMOUS).calls == 0


# --- rates ---


async def test_the_rate_of_a_tenant_is_that_of_all_its_principals() -> None:
    rig = Rig()
    rig.services.tenant_rates.limit(0.001, 3)
    ann, ben, other = rig.peer(ANN), rig.peer(BEN), rig.peer(OTHER_ANN)
    assert [ann.call(), ben.call(), ann.call()] == [None, None, None]
    for peer in (ann, ben):
        require(too_many("rate_limit_per_tenant", "tenant", 0.001, ErrorCode.RATE_LIMITED), peer.call())
    assert other.call() is None


async def test_two_tenants_may_have_principals_of_one_name() -> None:
    rig = Rig(rate=0.001, burst=1)
    ann, other = rig.peer(ANN), rig.peer(OTHER_ANN)
    assert ann.call() is None
    require(too_many("rate_limit", "principal", 0.001, ErrorCode.RATE_LIMITED), ann.call())
    assert other.call() is None, "the other tenant's has a rate of its own"
