from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.doors import Door, FakeBackend, connection, services
from tests.support.match import require
from tests.support.timing import PATIENCE, SOON
from trunkline.hub.authentication import CREDENTIALS_EXPIRED, NOT_AUTHENTICATED, Authentication
from trunkline.hub.connection import Connection
from trunkline.hub.principal import ANONYMOUS, PENDING, Handshake, Principal
from trunkline.hub.router import Router
from trunkline_protocol.errors import ErrorCode, RpcError

ALICE = Principal("alice", frozenset({"callee", "admin"}))
NEVER = 3600.0
A_WHILE = 600.0

pytestmark = pytest.mark.virtual_time


class Rig:
    """A connection and its hub. ``tokens`` says whose each token is.

    Attributes:
        admitted: the names of the principals ``changed`` was told of.
        serves: the methods that the connection serves.
    """

    def __init__(self, principal: Principal, seconds: float = NEVER) -> None:
        self.tokens: dict[str, Principal] = {"alice": ALICE, "bob": Principal("bob")}
        self.asked: list[tuple[str, str]] = []
        self.admitted: list[str] = []
        self.serves: list[str] = []
        self.backend = FakeBackend()
        self.authentication = Authentication(self._authenticate, seconds, self._changed, self._may_keep)
        self.router = Router(self.backend, lambda *_: None)
        self.router.handle(self.authentication.methods())
        self.router.handle({"rpc.ping": lambda call: call.settle_result(b'{"pong":true}')})
        shared = services(self.router)
        shared.opened, shared.closed = self.authentication.opened, self.authentication.closed
        self.door = Door(limit=10**6)
        self.connection: Connection = connection(shared, self.door, principal)
        self.authentication.opened(self.connection)

    def _authenticate(self, handshake: Handshake) -> Principal:
        token = str(handshake.token)
        self.asked.append((token, handshake.peer))
        if token not in self.tokens:
            raise RpcError(ErrorCode.UNAUTHENTICATED, "the token is not valid")
        return self.tokens[token]

    def _changed(self, changed: Connection) -> None:
        self.admitted.append(changed.principal.name)

    def _may_keep(self, _connection: Connection, principal: Principal) -> bool:
        return all(map(principal.may_register, self.serves))

    def send(self, message: Any) -> None:
        self.connection.receive(json.dumps(message).encode())

    def call(self, method: str, params: Any = None) -> Any:
        self.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}})
        return self.door.said()[-1]

    def auth(self, token: str) -> Any:
        return self.call("auth", {"token": token})

    async def closed_with(self, within: float = PATIENCE) -> tuple[int, str]:
        async with asyncio.timeout(within):
            while self.door.closed_with is None:
                await asyncio.sleep(0.005)
        return self.door.closed_with

    async def stays_open(self) -> None:
        await asyncio.sleep(A_WHILE)
        assert self.door.closed_with is None


Make = Callable[..., Rig]


@pytest.fixture
async def make() -> Any:
    made: list[Rig] = []

    def factory(principal: Principal = PENDING, seconds: float = NEVER) -> Rig:
        made.append(Rig(principal, seconds))
        return made[-1]

    yield factory
    for rig in made:
        rig.connection.disconnected()
        assert rig.authentication._timers == {}, "a connection that is gone is not watched"


def expiring(seconds: float, name: str = "alice") -> Principal:
    return Principal(name, expires=time.monotonic() + seconds)


# --- the first call ---


async def test_the_first_call_says_who_it_is(make: Make) -> None:
    rig = make()
    require({"result": {"principal": "alice", "roles": ["admin", "callee"], "expires_in_ms": None}}, rig.auth("alice"))
    assert rig.connection.principal is ALICE
    assert rig.asked == [("alice", "test")]
    assert rig.admitted == ["alice"]
    require({"result": {"pong": True}}, rig.call("rpc.ping"))
    await rig.stays_open()


@pytest.mark.parametrize("method", ["rpc.ping", "work.do", "health.check", "nobody", "subscribe"])
async def test_until_then_nothing_else_is_answered(make: Make, method: str) -> None:
    rig = make()
    require({"error": {"code": ErrorCode.UNAUTHENTICATED, "message": {"$contains": "auth"}}}, rig.call(method))
    rig.send({"jsonrpc": "2.0", "method": method})
    rig.send([{"jsonrpc": "2.0", "method": method}])
    assert rig.backend.calls == []
    await rig.stays_open()
    rig.auth("alice")
    assert rig.connection.principal is ALICE


async def test_a_wrong_token_is_answered_and_closes(make: Make) -> None:
    rig = make()
    require({"error": {"code": ErrorCode.UNAUTHENTICATED, "message": "the token is not valid"}}, rig.auth("guess"))
    assert (await rig.closed_with(SOON))[0] == NOT_AUTHENTICATED
    assert rig.connection.principal is PENDING
    assert rig.admitted == []


async def test_who_says_nothing_is_closed(make: Make) -> None:
    rig = make(seconds=0.02)
    assert rig.door.closed_with is None
    assert (await rig.closed_with())[0] == NOT_AUTHENTICATED


async def test_other_calls_win_no_time(make: Make) -> None:
    rig = make(seconds=0.05)
    began = time.monotonic()
    while rig.door.closed_with is None:
        rig.call("rpc.ping")
        await asyncio.sleep(0.005)
        assert time.monotonic() <= began + 0.06
    assert rig.door.closed_with[0] == NOT_AUTHENTICATED


async def test_who_authenticated_in_time_is_not_closed(make: Make) -> None:
    rig = make(seconds=0.02)
    rig.auth("alice")
    await rig.stays_open()


@pytest.mark.parametrize(
    "params", [{}, {"token": 5}, {"token": None}, ["alice"], {"token": "alice", "more": 1}, {"Token": "alice"}]
)
async def test_what_is_no_auth(make: Make, params: Any) -> None:
    rig = make()
    require({"error": {"code": ErrorCode.INVALID_PARAMS}}, rig.call("auth", params))
    assert rig.asked == []
    assert rig.connection.principal is PENDING


async def test_not_as_a_notification_or_in_a_batch(make: Make) -> None:
    rig = make()
    call = {"jsonrpc": "2.0", "method": "auth", "params": {"token": "alice"}}
    rig.send(call)
    rig.send([call])
    assert rig.door.said() == []
    rig.send([call | {"id": 1}])
    require([[{"id": 1, "error": {"code": ErrorCode.INVALID_REQUEST}}]], rig.door.said())
    assert rig.asked == []


async def test_tokens_are_not_told(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rig = make()
    with caplog.at_level(logging.DEBUG):
        for message in (rig.auth("s3cret-guess"), rig.call("auth", {"token": {"s3cret-guess": 1}})):
            assert "s3cret" not in json.dumps(message)
    assert "s3cret" not in caplog.text


# --- expiry ---


async def test_credentials_end_in_the_middle(make: Make) -> None:
    rig = make(expiring(0.05))
    assert rig.door.closed_with is None
    assert (await rig.closed_with())[0] == CREDENTIALS_EXPIRED


async def test_what_has_expired_already_is_closed_at_once(make: Make) -> None:
    assert (await make(expiring(-5)).closed_with(SOON))[0] == CREDENTIALS_EXPIRED


async def test_what_does_not_expire_is_not_watched(make: Make) -> None:
    for rig in (make(ANONYMOUS), make(ALICE)):
        assert rig.authentication._timers == {}


async def test_expiry_after_the_first_call(make: Make) -> None:
    rig = make()
    rig.tokens["short"] = expiring(0.2)
    left = rig.auth("short")["result"]["expires_in_ms"]
    assert 0 < left <= 200
    assert (await rig.closed_with())[0] == CREDENTIALS_EXPIRED


async def test_renewing_in_time(make: Make) -> None:
    rig = make(expiring(0.03))
    rig.tokens["fresh"] = expiring(NEVER)
    left = rig.auth("fresh")["result"]["expires_in_ms"]
    assert 0.9 * NEVER * 1000 < left <= NEVER * 1000
    await rig.stays_open()


async def test_renewing_for_less_counts_too(make: Make) -> None:
    rig = make(expiring(NEVER))
    rig.tokens["short"] = expiring(0.02)
    rig.auth("short")
    assert (await rig.closed_with())[0] == CREDENTIALS_EXPIRED


async def test_credentials_that_are_long_lived(make: Make) -> None:
    rig = make(expiring(50 * 365 * 86400.0))
    await rig.stays_open()


async def test_who_left_is_not_closed(make: Make) -> None:
    rig = make(expiring(0.02))
    rig.connection.disconnected()
    await rig.stays_open()


# --- on an authenticated connection ---


async def test_a_wrong_token_does_no_harm_there(make: Make) -> None:
    rig = make(ALICE)
    require({"error": {"code": ErrorCode.UNAUTHENTICATED}}, rig.auth("guess"))
    await rig.stays_open()
    assert rig.connection.principal is ALICE
    require({"result": {"pong": True}}, rig.call("rpc.ping"))


@pytest.mark.parametrize("token", ["bob", "alice elsewhere"])
async def test_nobody_becomes_somebody_else(make: Make, token: str) -> None:
    rig = make(ALICE)
    rig.tokens["alice elsewhere"] = Principal("alice", ALICE.roles, tenant="elsewhere")
    refused = rig.auth(token)["error"]
    require({"code": ErrorCode.FORBIDDEN, "message": {"$contains": "alice"}}, refused)
    await rig.stays_open()
    assert rig.connection.principal is ALICE
    assert rig.admitted == []


async def test_new_permissions_count_from_the_next_call_on(make: Make) -> None:
    rig = make(ALICE)
    rig.send({"jsonrpc": "2.0", "id": 1, "method": "work.do"})
    rig.tokens["less"] = Principal("alice", methods=("rag.*",))
    rig.send({"jsonrpc": "2.0", "id": 2, "method": "auth", "params": {"token": "less"}})
    require({"id": 2, "result": {"roles": []}}, rig.door.said()[-1])
    rig.send({"jsonrpc": "2.0", "id": 3, "method": "work.do"})
    require({"id": 3, "error": {"code": ErrorCode.FORBIDDEN}}, rig.door.said()[-1])
    rig.backend.calls[0].settle_result(b"5")
    require({"id": 1, "result": 5}, rig.door.said()[-1])
    await rig.stays_open()


async def test_methods_that_may_not_be_served_any_more_end_the_connection(make: Make) -> None:
    rig = make(ALICE)
    rig.serves = ["node.a"]
    rig.tokens["same"] = Principal("alice", register=("node.*",))
    rig.auth("same")
    await rig.stays_open()
    rig.tokens["less"] = Principal("alice", register=("other.*",))
    rig.auth("less")
    code, reason = await rig.closed_with(SOON)
    assert (code, "methods that it serves" in reason) == (CREDENTIALS_EXPIRED, True)


async def test_subscriptions_that_are_not_allowed_any_more_end_the_connection(make: Make) -> None:
    rig = make(ALICE)
    rig.connection.subscriptions |= {"jobs.1": "alice", "system.metrics": "alice"}
    rig.tokens["same"] = Principal("alice", frozenset({"admin"}), subscribe=("jobs.>",))
    rig.auth("same")
    await rig.stays_open()
    rig.tokens["less"] = Principal("alice", subscribe=("jobs.>",))
    require({"result": {"principal": "alice"}}, rig.auth("less"))
    code, reason = await rig.closed_with(SOON)
    assert code == CREDENTIALS_EXPIRED, "the client is to come back, and to be told then"
    assert "subscriptions" in reason
