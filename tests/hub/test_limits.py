from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hub.doors import Door, FakeBackend, connection, services
from tests.support.match import require
from trunkline.hub.connection import Connection
from trunkline.hub.limits import MAX_BUCKETS, ConnectionLimits, RateLimiter, TokenBucket
from trunkline.hub.principal import ANONYMOUS, Principal
from trunkline.hub.router import Router
from trunkline_protocol.errors import ErrorCode

ALICE, BOB = Principal("alice"), Principal("bob")


# --- the bucket ---


def test_a_burst_at_once_and_then_at_the_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(100.0) == pytest.approx(0.5)
    assert bucket.take(100.25) == pytest.approx(0.25), "asking in vain costs nothing"
    assert bucket.take(100.5) == 0.0
    assert bucket.take(100.5) == pytest.approx(0.5)


def test_tokens_do_not_pile_up_beyond_the_burst() -> None:
    bucket = TokenBucket(rate=10.0, burst=2.0, now=0.0)
    assert [bucket.take(1e6) == 0.0 for _ in range(4)] == [True, True, False, False]


def test_a_slow_rate_is_possible() -> None:
    bucket = TokenBucket(rate=0.1, burst=1.0, now=0.0)
    assert bucket.take(0.0) == 0.0
    assert bucket.take(5.0) == pytest.approx(5.0)
    assert bucket.take(10.1) == 0.0


waits = st.lists(st.floats(0, 3, allow_nan=False), max_size=60)


@given(waits, st.floats(0.1, 50), st.integers(1, 10))
def test_never_more_than_rate_and_burst_allow_and_the_hint_is_true(waits: list[float], rate: float, burst: int) -> None:
    bucket, now, taken = TokenBucket(rate, float(burst), 0.0), 0.0, 0
    for wait in waits:
        now += wait
        hint = bucket.take(now)
        assert 0 <= hint <= 1 / rate + 1e-9
        if hint:
            now += hint + 1e-9
            assert bucket.take(now) == pytest.approx(0.0, abs=1e-6)
        taken += 1
    assert taken <= burst + now * rate + 1e-3


# --- who shares one ---


def test_a_bucket_a_principal() -> None:
    limiter = RateLimiter(5.0, 2)
    assert limiter.bucket("alice", None, 0.0) is limiter.bucket("alice", None, 1.0)
    assert limiter.bucket("alice", None, 0.0) is not limiter.bucket("bob", None, 0.0)


def test_without_a_rate_there_is_none() -> None:
    assert RateLimiter(0.0, 5).bucket("alice", None, 0.0) is None


@pytest.mark.parametrize(
    ("rate", "burst", "own", "at_once"), [(3.0, 0, None, 3), (0.5, 0, None, 1), (3.0, 7, None, 7), (0.0, 0, 4.0, 4)]
)
def test_how_many_at_once(rate: float, burst: int, own: float | None, at_once: int) -> None:
    bucket = RateLimiter(rate, burst).bucket("alice", own, 0.0)
    assert bucket is not None
    assert [bucket.take(0.0) == 0.0 for _ in range(at_once + 1)] == [True] * at_once + [False]


def test_a_principals_own_rate_goes_before_the_hubs() -> None:
    bucket = RateLimiter(1000.0, 0).bucket("alice", 1.0, 0.0)
    assert bucket is not None
    assert [bucket.take(0.0) for _ in range(2)] == [0.0, pytest.approx(1.0)]


def test_a_rate_that_has_changed_counts_from_now_on() -> None:
    limiter = RateLimiter(0.0, 0)
    slow = limiter.bucket("alice", 1.0, 0.0)
    fast = limiter.bucket("alice", 100.0, 0.0)
    assert slow is not None
    assert fast is not None
    assert [slow.take(0.0) == 0.0 for _ in range(2)] == [True, False]
    assert all(fast.take(0.0) == 0.0 for _ in range(100)), "credentials that were renewed may say something else"


def test_the_buckets_are_bounded() -> None:
    limiter = RateLimiter(1.0, 1)
    busy = limiter.bucket("busy", None, 0.0)
    for number in range(MAX_BUCKETS + 10):
        limiter.bucket(str(number), None, 0.0)
        assert limiter.bucket("busy", None, 0.0) is busy, "the least recently seen are forgotten"
    assert len(limiter._buckets) == MAX_BUCKETS


# --- connections ---


class Rig:
    """Connections of one hub, in memory."""

    def __init__(self, *, max_calls: int = 1000, rate: float = 0.0, burst: int = 0, **limits: Any) -> None:
        self.backend = FakeBackend()
        self.finished: list[int] = []
        self.router = Router(self.backend, lambda *record: self.finished.append(record[3]), max_calls=max_calls)
        self.router.handle({"hub.now": lambda call: call.settle_result(b"5")})
        self.services = services(self.router, ConnectionLimits(**limits), rate=rate, burst=burst)

    def peer(self, principal: Principal = ANONYMOUS) -> Peer:
        return Peer(self, principal)


class Peer:
    def __init__(self, rig: Rig, principal: Principal) -> None:
        self.door = Door(limit=10**7)
        self.connection: Connection = connection(rig.services, self.door, principal)
        self.number = 0

    def call(self, method: str = "work.do") -> Any:
        """Call; what came back at once, if anything did."""
        self.number += 1
        before = len(self.door.said())
        self.receive({"jsonrpc": "2.0", "id": self.number, "method": method})
        return (self.door.said()[before:] or [None])[0]

    def notify(self, method: str = "work.do") -> None:
        self.receive({"jsonrpc": "2.0", "method": method})

    def receive(self, message: Any) -> None:
        self.connection.receive(json.dumps(message).encode())


def refused(code: ErrorCode, setting: str, retryable: bool = True) -> dict[str, Any]:
    data = {"type": code.name, "limit": setting, "retryable": retryable, "maybe_executed": False}
    return {"error": {"code": code, "message": {"$contains": setting}, "data": data}}


MANY_CALLS = refused(ErrorCode.RESOURCE_EXHAUSTED, "TRUNKLINE_MAX_CALLS_PER_CONNECTION")
ALL_CALLS = refused(ErrorCode.RESOURCE_EXHAUSTED, "TRUNKLINE_MAX_CALLS")
TOO_OFTEN = refused(ErrorCode.RATE_LIMITED, "TRUNKLINE_RATE_LIMIT")


async def test_calls_of_a_connection() -> None:
    rig = Rig(max_calls_per_connection=2)
    one, other = rig.peer(), rig.peer()
    assert [one.call(), one.call()] == [None, None]
    require(MANY_CALLS, one.call())
    assert other.call() is None, "another connection has its own"
    rig.backend.calls[0].settle_result(b"0")
    assert one.call() is None
    assert len(rig.backend.calls) == 4


async def test_notifications_count_among_them_until_they_end() -> None:
    rig = Rig(max_calls_per_connection=2)
    one = rig.peer()
    one.notify()
    one.notify("work.stream")
    require(MANY_CALLS, one.call())
    one.notify()
    assert len(rig.backend.calls) == 2, "a notification beyond the limit is dropped, too"
    done, stream = rig.backend.calls
    done.settle_result(b"0")
    stream.stream(b'"data"', b"1")
    assert one.call() is None
    stream.settle_result(b"0")
    assert one.call() is None
    require(MANY_CALLS, one.call("hub.now"))


async def test_a_refused_call_leaves_nothing_behind() -> None:
    rig = Rig(max_calls_per_connection=1)
    one = rig.peer()
    one.call()
    for _ in range(5):
        require(MANY_CALLS, one.call())
        one.notify()
    assert len(one.connection.calls) == 1
    assert one.connection.notifications == 0
    assert rig.router.in_flight == 1
    assert rig.finished == [ErrorCode.RESOURCE_EXHAUSTED] * 10, "refusals are counted"


async def test_a_batch_counts_by_member() -> None:
    rig = Rig(max_calls_per_connection=2)
    one = rig.peer()
    one.receive([{"jsonrpc": "2.0", "id": n, "method": "work.do"} for n in range(3)])
    assert len(rig.backend.calls) == 2
    for call in rig.backend.calls:
        call.settle_result(b"0")
    (replies,) = one.door.said()
    require([MANY_CALLS, {"id": 0}, {"id": 1}], replies)


async def test_calls_of_all_connections() -> None:
    rig = Rig(max_calls=2)
    one, other = rig.peer(), rig.peer()
    one.call()
    other.notify()
    require(ALL_CALLS, one.call())
    require(ALL_CALLS, other.call())
    require({"result": 5}, other.call("hub.now"))
    rig.backend.calls[0].settle_result(b"0")
    assert other.call() is None
    assert rig.router.in_flight == 2


async def test_the_rate_is_a_principals_over_all_its_connections() -> None:
    rig = Rig(rate=0.001, burst=3)
    one, two, other = rig.peer(ALICE), rig.peer(ALICE), rig.peer(BOB)
    assert [one.call(), two.call(), one.call()] == [None, None, None]
    for peer in (one, two):
        require(TOO_OFTEN, peer.call())
    assert other.call() is None
    assert len(rig.backend.calls) == 4


@pytest.mark.virtual_time
async def test_the_rate_says_when_to_come_back() -> None:
    rig = Rig(rate=0.01, burst=1)
    peer = rig.peer(ALICE)
    peer.call()
    retry_after = peer.call()["error"]["data"]["retry_after_ms"]
    assert 100_000 <= retry_after <= 100_001, "no time has passed"


async def test_the_rate_counts_everything_that_is_asked() -> None:
    rig = Rig(rate=0.001, burst=3)
    peer = rig.peer(ALICE)
    peer.notify()
    require({"result": 5}, peer.call("hub.now"))
    require({"error": {"code": ErrorCode.METHOD_NOT_FOUND}}, peer.call("nobody"))
    require(TOO_OFTEN, peer.call("hub.now"))
    peer.notify()
    assert len(rig.backend.calls) == 1


async def test_a_cancel_is_never_refused() -> None:
    rig = Rig(rate=0.001, burst=1, max_calls_per_connection=1)
    peer = rig.peer(ALICE)
    peer.call()
    peer.receive({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}})
    require([{"id": 1, "error": {"code": ErrorCode.CANCELLED}}], peer.door.said())


async def test_a_principals_own_rate() -> None:
    rig = Rig()
    slow, free = rig.peer(Principal("slow", rate=0.001)), rig.peer(ALICE)
    assert slow.call() is None
    require(TOO_OFTEN, slow.call())
    assert [free.call() for _ in range(20)] == [None] * 20
