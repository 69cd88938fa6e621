"""Faults 9 and 10: credentials that are missing, wrong, expired, revoked, or never come; and what they allow."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
import websockets

from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.timing import SCALE, eventually
from trunkline_protocol.errors import ErrorCode

ADMIN: Final = "admin-token-of-this-test-0123456789"
READER: Final = "reader-token-of-this-test-0123456789"
OFTEN: Final = "often-token-of-this-test-0123456789"
AUDITED: Final = "audited-token-of-this-test-01234567"
KEY: Final = "an-hmac-secret-of-this-test-with-32-bytes-and-more"
SECRETS: Final = (ADMIN, READER, OFTEN, AUDITED, KEY)

EXPIRED: Final = 4001
NOT_AUTHENTICATED: Final = 4501


def entry(name: str, token: str, more: str = "") -> str:
    return f'[[tokens]]\nname = "{name}"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n{more}\n'


RATE: Final = 20
AUTH_SECONDS: Final = 1.5 * SCALE
"""Enough for who does authenticate, however long a process may stand still."""

ROLES: Final = f"""
[roles.reader]
methods = ["debug.echo", "debug.sleep"]
subscribe = ["jobs.*"]
publish = ["jobs.own"]
rate = {RATE}
"""


def tokens_file(path: Path, *entries: str) -> Path:
    path.write_text(ROLES + "".join(entries))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the hub's files are."""
    return tmp_path_factory.mktemp("credentials")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Path:
    return tokens_file(
        folder / "tokens.toml",
        entry("ada", ADMIN, 'roles = ["admin"]'),
        entry("rea", READER, 'roles = ["reader"]'),
        entry("ofelia", OFTEN, 'roles = ["reader"]'),
        entry("audrey", AUDITED, 'roles = ["reader"]'),
    )


@pytest.fixture(scope="module")
def hub(tokens: Path, folder: Path) -> Iterator[RunningHub]:
    """One for all tests of this file, each of which leaves the credentials as they were."""
    env = {
        "TRUNKLINE_TOKENS_FILE": str(tokens),
        "TRUNKLINE_JWT_KEY": KEY,
        "TRUNKLINE_JWT_AUDIENCE": "trunkline-test",
        "TRUNKLINE_JWT_LEEWAY": "0",
        "TRUNKLINE_AUTH_CALL": "true",
        "TRUNKLINE_AUTH_SECONDS": str(AUTH_SECONDS),
        "TRUNKLINE_AUDIT_FILE": str(folder / "audit.jsonl"),
        "TRUNKLINE_LOG_LEVEL": "debug",
    }
    with ready_hub(env=env) as running:
        yield running
        said = "\n".join([*running.stdout, *running.stderr])
    said += (folder / "audit.jsonl").read_text()
    for secret in SECRETS:
        assert secret not in said, "a secret is in the logs"
    assert "eyJ" not in said, "a JWT is in the logs"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signed(key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    known = {"sub": "jo", "aud": "trunkline-test", "exp": time.time() + 60}
    return jwt.encode(known | claims, key, algorithm=algorithm)


REFUSED: Final[dict[str, Callable[[], str]]] = {
    "wrong": lambda: "no-such-token",
    "expired": lambda: signed(exp=time.time() - 60),
    "of another audience": lambda: signed(aud="somebody-else"),
    "signed by another": lambda: signed(key="another-secret-that-has-32-bytes-and-more"),
    "unsigned": lambda: jwt.encode({"sub": "jo", "aud": "trunkline-test", "exp": time.time() + 60}, "", "none"),
    "without expiry": lambda: jwt.encode({"sub": "jo", "aud": "trunkline-test"}, KEY, "HS256"),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_fault_10_refused_before_the_upgrade(hub: RunningHub, why: str) -> None:
    token = REFUSED[why]()
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with peer(hub.url, bearer(token)):
            pass
    assert refused.value.response.status_code == 403
    body = bytes(refused.value.response.body or b"")
    assert b'"code":6001' in body
    assert token.encode() not in body


async def test_a_token_from_the_header_and_one_from_the_subprotocol(hub: RunningHub) -> None:
    encoded = base64.urlsafe_b64encode(READER.encode()).decode().rstrip("=")
    async with (
        peer(hub.url, bearer(signed())) as by_header,
        peer(hub.url, subprotocols=["trunkline.v1+json", f"trunkline.bearer.{encoded}"]) as by_subprotocol,
    ):
        assert await by_header.result("debug.echo", {"value": 1}) == 1
        assert await by_subprotocol.result("debug.echo", {"value": 2}) == 2
        assert by_subprotocol.socket.subprotocol == "trunkline.v1+json", "the token is not sent back"


async def test_fault_09_an_auth_call_that_never_comes(hub: RunningHub) -> None:
    started = time.monotonic()
    async with peer(hub.url) as silent:
        assert await silent.close_code() == NOT_AUTHENTICATED
    assert time.monotonic() - started > 0.9 * AUTH_SECONDS, "it had its time"


async def test_until_it_has_authenticated_a_peer_gets_nothing(hub: RunningHub) -> None:
    async with peer(hub.url) as stranger:
        for method in ("debug.echo", "rpc.discover", "subscribe", "publish", "health.check", "no.such"):
            require({"code": ErrorCode.UNAUTHENTICATED}, await stranger.error(method, {"value": 1, "topic": "jobs.a"}))
        require({"principal": "rea", "roles": ["reader"]}, await stranger.result("auth", {"token": READER}))
        assert await stranger.result("debug.echo", {"value": 1}) == 1
        async with peer(hub.url) as later:
            assert await later.close_code() == NOT_AUTHENTICATED, "whose time began when the other's had begun"
        assert await stranger.result("debug.echo", {"value": 1}) == 1, "the deadline is off"


async def test_a_wrong_token_in_the_auth_call_is_the_last_word(hub: RunningHub) -> None:
    async with peer(hub.url) as stranger:
        require({"code": ErrorCode.UNAUTHENTICATED}, await stranger.error("auth", {"token": "guessed"}))
        assert await stranger.close_code() == NOT_AUTHENTICATED


async def test_strangers_may_not_send_large_messages(hub: RunningHub) -> None:
    async with peer(hub.url) as stranger:
        await stranger.request("auth", {"token": "x" * 20_000})
        assert await stranger.close_code() == 1009


async def test_fault_10_credentials_that_expire_in_the_middle(hub: RunningHub) -> None:
    soon = time.time() + 1 + 1.5 * SCALE  # whole seconds count
    async with (
        peer(hub.url, bearer(signed(exp=soon))) as ending,
        peer(hub.url, bearer(signed(exp=soon))) as renewing,
    ):
        renewed = await renewing.result("auth", {"token": signed(exp=time.time() + 60)})
        assert 30_000 < renewed["expires_in_ms"] <= 60_000
        assert await ending.result("debug.echo", {"value": 1}) == 1
        assert await ending.close_code() == EXPIRED
        assert await renewing.result("debug.echo", {"value": 1}) == 1


async def test_another_name_cannot_take_a_connection_over(hub: RunningHub) -> None:
    async with peer(hub.url, bearer(signed())) as connection:
        require({"code": ErrorCode.FORBIDDEN}, await connection.error("auth", {"token": ADMIN}))
        assert await connection.result("debug.echo", {"value": 1}) == 1, "as before"


async def test_fault_10_revoked_on_sighup(hub: RunningHub, tokens: Path) -> None:
    whole = await asyncio.to_thread(tokens.read_text)
    try:
        async with peer(hub.url, bearer(READER)) as revoked, peer(hub.url, bearer(ADMIN)) as kept:
            await revoked.result("debug.echo", {"value": 1})
            tokens_file(tokens, entry("ada", ADMIN, 'roles = ["admin"]'))
            hub.process.send_signal(signal.SIGHUP)
            assert await revoked.close_code() == NOT_AUTHENTICATED
            assert await kept.result("debug.echo", {"value": 1}) == 1
            await asyncio.to_thread(tokens.write_text, "this is not TOML = = =")
            hub.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(hub.wait_for, "reload failed")
            assert await kept.result("debug.echo", {"value": 1}) == 1, "a broken file changes nothing"
    finally:
        await asyncio.to_thread(tokens.write_text, whole)
        hub.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(eventually, lambda: comes_in(hub, READER), "what was revoked is given again")


def comes_in(hub: RunningHub, token: str) -> bool:
    return hub.get("/metrics", bearer(token)).status == 200


async def test_what_a_role_allows(hub: RunningHub) -> None:
    async with peer(hub.url, bearer(READER)) as reader:
        assert await reader.result("debug.echo", {"value": 1}) == 1
        await reader.result("subscribe", {"topic": "jobs.*"})
        await reader.result("publish", {"topic": "jobs.own", "data": 1})
        for method, params in (
            ("debug.pid", {}),
            ("debug.crash", {}),
            ("no.such.method", {}),
            ("subscribe", {"topic": "jobs.>"}),
            ("subscribe", {"topic": "other"}),
            ("subscribe", {"topic": "system.metrics"}),
            ("publish", {"topic": "jobs.other", "data": 1}),
            ("publish", {"topic": "system.metrics", "data": 1}),
        ):
            require({"code": ErrorCode.FORBIDDEN}, await reader.error(method, params))
    async with peer(hub.url, bearer(ADMIN)) as admin:
        await admin.result("subscribe", {"topic": "system.>"})


async def test_a_principal_that_calls_too_often(hub: RunningHub) -> None:
    async with peer(hub.url, bearer(OFTEN)) as one, peer(hub.url, bearer(OFTEN)) as two:
        began = time.monotonic()
        asked = [(each, await each.request("debug.echo", {"value": 1})) for _ in range(100) for each in (one, two)]
        replies = [await each.reply(number) for each, number in asked]
        refused = [reply["error"] for reply in replies if "error" in reply]
        allowed = RATE * (1 + time.monotonic() - began)
        assert len(replies) - len(refused) <= allowed, "both connections share the principal's rate"
        require(
            {"code": ErrorCode.RATE_LIMITED, "data": {"limit": "TRUNKLINE_RATE_LIMIT", "maybe_executed": False}},
            refused[0],
        )
        while "error" not in (told := await one.call("debug.echo", {"value": 1})):
            pass
        await asyncio.sleep(told["error"]["data"]["retry_after_ms"] / 1000)  # since then nobody has called
        assert await one.result("debug.echo", {"value": 1}) == 1


async def test_the_audit_says_who_what_and_how_it_ended(hub: RunningHub, folder: Path) -> None:
    async with peer(hub.url, bearer(AUDITED)) as reader:
        await reader.result("debug.echo", {"value": "payload-that-must-not-appear"})
        await reader.error("debug.pid")
    with pytest.raises(websockets.InvalidStatus):
        async with peer(hub.url, bearer("nobody")):
            pass
    audit = folder / "audit.jsonl"
    await asyncio.to_thread(eventually, lambda: {"disconnected", "refused"} <= {*events_of(audit)}, "both are written")
    lines = await asyncio.to_thread(lines_of, audit)
    hers = [line for line in lines if line.get("principal") == "audrey"]
    assert [line["event"] for line in hers] == ["connected", "call", "call", "disconnected"]
    require({"method": "debug.echo", "outcome": "ok", "code": 0}, hers[1])
    require({"method": "debug.pid", "outcome": "FORBIDDEN", "code": 6002}, hers[2])
    assert hers[1]["duration_ms"] >= 0
    assert "payload" not in str(lines)


def lines_of(audit: Path) -> list[dict[str, Any]]:
    """What is written, without a line that is just being written."""
    return [json.loads(line) for line in audit.read_text().rpartition("\n")[0].splitlines()]


def events_of(audit: Path) -> list[str]:
    """What it says of the audited principal, and of those who were refused."""
    return [
        line["event"] for line in lines_of(audit) if line.get("principal") == "audrey" or line["event"] == "refused"
    ]
