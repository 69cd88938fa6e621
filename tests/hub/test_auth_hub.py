"""Credentials, roles and the call ``auth`` through a real hub with a tokens file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import SCALE
from trunkline.edge.access.tokens import new_token
from trunkline_protocol.errors import ErrorCode

TOKENS = {name: new_token() for name in ("ops", "reader", "writer", "brief", "leaving", "slow")}
ROLES = """
[roles.reader]
methods = ["subscribe"]
subscribe = ["jobs.>"]
publish = []

[roles.writer]
publish = ["jobs.*"]

[roles.slow]
rate = 0.01
"""
SECONDS = 2 * SCALE
"""How long a connection may take to authenticate."""

LASTS = 4 * SCALE
"""Seconds after which a token ends: the hub has to read of it, and its owner to come, before that."""


def entry(name: str, *roles: str, expires: datetime | None = None) -> str:
    until = "" if expires is None else f"expires = {expires.isoformat()}\n"
    return f'[[tokens]]\nname = "{name}"\nsha256 = "{TOKENS[name][1]}"\nroles = {list(roles)}\n{until}'


def write(path: Path, *entries: str) -> None:
    path.write_text(ROLES + "\n".join(entries))
    path.chmod(0o600)


LASTING = (entry("ops", "admin"), entry("reader", "reader"), entry("writer", "writer"), entry("slow", "slow"))


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    write(path, *LASTING, entry("leaving", "admin"))
    return path


@pytest.fixture(scope="module")
def hub(tokens_file: Path) -> Iterator[RunningHub]:
    env = {
        "TRUNKLINE_TOKENS_FILE": str(tokens_file),
        "TRUNKLINE_AUTH_CALL": "true",
        "TRUNKLINE_AUTH_SECONDS": str(SECONDS),
    }
    with RunningHub(env=env) as running:
        yield running


def come(hub: RunningHub, name: str) -> AbstractAsyncContextManager[Peer]:
    return peer(hub.url, {"Authorization": f"Bearer {TOKENS[name][0]}"})


async def test_a_token_in_the_handshake(hub: RunningHub) -> None:
    async with come(hub, "reader") as reader, come(hub, "writer") as writer:
        await reader.result("subscribe", {"topic": "jobs.>"})
        await writer.result("publish", {"topic": "jobs.1", "data": 1})
        require({"method": "event", "params": {"topic": "jobs.1", "data": 1}}, await reader.receive())


async def test_a_wrong_one(hub: RunningHub) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with peer(hub.url, {"Authorization": "Bearer wrong"}):
            pass
    assert refused.value.response.status_code == 403


async def test_the_first_call(hub: RunningHub) -> None:
    async with peer(hub.url) as late:
        require({"code": ErrorCode.UNAUTHENTICATED}, await late.error("rpc.ping"))
        admitted = await late.result("auth", {"token": TOKENS["ops"][0]})
        assert admitted == {"principal": "ops", "roles": ["admin"], "tenant": "default", "expires_in_ms": None}
        await late.result("subscribe", {"topic": "system.metrics"})


async def test_a_wrong_first_call_is_answered_and_closed(hub: RunningHub) -> None:
    async with peer(hub.url) as guest:
        require({"code": ErrorCode.UNAUTHENTICATED}, await guest.error("auth", {"token": "wrong"}))
        assert await guest.close_code() == 4501


async def test_no_call_at_all(hub: RunningHub) -> None:
    async with peer(hub.url) as guest:
        assert await guest.close_code() == 4501


async def test_large_messages_come_after_it(hub: RunningHub) -> None:
    async with peer(hub.url) as guest:
        await guest.request("auth", {"token": "x" * 20_000})
        assert await guest.close_code() == 1009
    async with come(hub, "ops") as ops:
        await ops.result("publish", {"topic": "a", "data": "x" * 20_000})


@pytest.mark.parametrize(
    ("name", "method", "params"),
    [
        ("reader", "publish", {"topic": "jobs.1", "data": 1}),
        ("reader", "subscribe", {"topic": "other"}),
        ("reader", "subscribe", {"topic": ">"}),
        ("reader", "subscribe", {"topic": "system.metrics"}),
        ("reader", "debug.echo", {}),
        ("writer", "publish", {"topic": "jobs.1.done", "data": 1}),
        ("writer", "subscribe", {"topic": "system.requests"}),
        ("ops", "publish", {"topic": "system.metrics", "data": 1}),
    ],
)
async def test_what_is_not_allowed(hub: RunningHub, name: str, method: str, params: dict[str, object]) -> None:
    async with come(hub, name) as connection:
        require({"code": ErrorCode.FORBIDDEN, "data": {"retryable": False}}, await connection.error(method, params))
        await connection.result("rpc.ping")


async def test_a_notification_is_held_to_the_same_rules(hub: RunningHub) -> None:
    async with come(hub, "ops") as ops, come(hub, "reader") as reader, come(hub, "writer") as writer:
        await ops.result("subscribe", {"topic": ">"})
        for forbidden in (reader, writer):
            await forbidden.notify("publish", {"topic": "other", "data": 1})
            await forbidden.result("rpc.ping")
        await ops.result("rpc.ping")
        assert ops.others == []


async def test_nobody_becomes_somebody_else(hub: RunningHub) -> None:
    async with come(hub, "reader") as reader:
        require({"code": ErrorCode.FORBIDDEN}, await reader.error("auth", {"token": TOKENS["ops"][0]}))
        require({"code": ErrorCode.UNAUTHENTICATED}, await reader.error("auth", {"token": "wrong"}))
        await reader.result("subscribe", {"topic": "jobs.1"})


async def test_the_rate_of_a_role(hub: RunningHub) -> None:
    async with come(hub, "slow") as one, come(hub, "slow") as two:
        await one.result("rpc.ping")
        refused = await two.error("rpc.ping")
        require({"code": ErrorCode.RATE_LIMITED, "data": {"limit": "TRUNKLINE_RATE_LIMIT"}}, refused)
        assert 50_000 < refused["data"]["retry_after_ms"] <= 100_001


async def test_who_is_taken_out_of_the_file_has_to_go_and_who_expires(hub: RunningHub, tokens_file: Path) -> None:
    async with come(hub, "leaving") as leaving, come(hub, "ops") as staying:
        await leaving.result("rpc.ping")
        write(tokens_file, *LASTING, entry("brief", "admin", expires=datetime.now(UTC) + timedelta(seconds=LASTS)))
        hub.process.send_signal(signal.SIGHUP)
        assert await leaving.close_code() == 4501
        async with come(hub, "brief") as brief:
            left = (await brief.result("auth", {"token": TOKENS["brief"][0]}))["expires_in_ms"]
            assert 0 < left <= 1000 * LASTS
            await staying.result("rpc.ping")
            with pytest.raises(InvalidStatus):
                async with come(hub, "leaving"):
                    pass
            assert await brief.close_code() == 4001
