"""Who may come in, at the door of a real hub: every refusal comes before the upgrade."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.frames import TEXT, frame, raw_socket, raw_tcp
from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.timing import eventually
from trunkline_protocol.errors import ErrorCode

TOKEN = "s3cret-token"


@pytest.fixture(scope="module")
def guarded_hub() -> Iterator[RunningHub]:
    """Reachable from other machines, so it wants a token."""
    env = {
        "TRUNKLINE_HOST": "0.0.0.0",
        "TRUNKLINE_TOKEN": TOKEN,
        "TRUNKLINE_ALLOWED_HOSTS": "hub.example, 127.0.0.1",
        "TRUNKLINE_ALLOWED_ORIGINS": "https://app.example",
    }
    with ready_hub(env=env) as hub:
        yield hub


def bearer(token: str) -> str:
    return "trunkline.bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[bad"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
async def test_wrong_host_or_origin_is_403_before_the_upgrade(debug_hub: RunningHub, headers: dict[str, str]) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        answer = await socket.upgrade(headers=headers)
        assert answer.status == 403
        require({"jsonrpc": "2.0", "id": None, "error": {"code": ErrorCode.FORBIDDEN}}, json.loads(answer.body))
        assert await socket.ended()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic czNjcmV0"},
        {"Authorization": "Bearer \xff\xfe"},
        {"Sec-WebSocket-Protocol": f"trunkline.v1+json, {bearer('wrong')}"},
        {"Sec-WebSocket-Protocol": "trunkline.v1+json, trunkline.bearer.////"},
    ],
)
async def test_no_or_a_wrong_token_is_403_before_the_upgrade(guarded_hub: RunningHub, headers: dict[str, str]) -> None:
    async with raw_tcp(guarded_hub.port) as socket:
        answer = await socket.upgrade(headers=headers)
        assert answer.status == 403
        require({"error": {"code": ErrorCode.UNAUTHENTICATED}}, json.loads(answer.body))
        assert TOKEN not in answer.body.decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Sec-WebSocket-Protocol": f"trunkline.v1+json, {bearer(TOKEN)}"},
        {"Sec-WebSocket-Protocol": f"trunkline.v1+json, {bearer(TOKEN)}", "Origin": "https://app.example"},
        {"Sec-WebSocket-Protocol": f"trunkline.v1+json, {bearer(TOKEN)}", "Host": "hub.example"},
    ],
)
async def test_the_token_opens_the_door(guarded_hub: RunningHub, headers: dict[str, str]) -> None:
    async with raw_tcp(guarded_hub.port) as socket:
        answer = await socket.upgrade(headers=headers)
        assert answer.status == 101
        assert "bearer" not in answer.headers.get("sec-websocket-protocol", "")
        await socket.write(frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'))
        assert b"pong" in (await socket.frame()).payload


async def test_the_token_is_never_logged(guarded_hub: RunningHub) -> None:
    async with raw_tcp(guarded_hub.port) as socket:
        await socket.upgrade(headers={"Authorization": "Bearer almost-right"})
    guarded_hub.wait_for("upgrade refused")
    assert "almost-right" not in guarded_hub.words
    assert TOKEN not in guarded_hub.words


async def test_subprotocol_is_answered(debug_hub: RunningHub) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        answer = await socket.upgrade(headers={"Sec-WebSocket-Protocol": "chat, trunkline.v1+json"})
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "trunkline.v1+json")


async def test_an_unknown_version_is_a_clear_refusal(debug_hub: RunningHub) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        answer = await socket.upgrade(headers={"Sec-WebSocket-Protocol": "trunkline.v2+json"})
        assert answer.status == 400
        assert b"trunkline.v1+json" in answer.body


async def test_no_compression_is_negotiated(debug_hub: RunningHub) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        answer = await socket.upgrade(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/socket", "/ws/", "/WS"])
async def test_the_door_is_at_ws_only(debug_hub: RunningHub, path: str) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        assert (await socket.upgrade(path)).status == 404


@pytest.mark.parametrize("tokens", ["keep-alive, Upgrade", "upgrade", "Upgrade, keep-alive"])
async def test_the_connection_header_may_have_other_tokens(debug_hub: RunningHub, tokens: str) -> None:
    """Firefox sends ``keep-alive, Upgrade``."""
    async with raw_tcp(debug_hub.port) as socket:
        assert (await socket.upgrade(headers={"Connection": tokens})).status == 101


async def test_a_query_is_no_matter(debug_hub: RunningHub) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        assert (await socket.upgrade("/ws?x=1")).status == 101


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Version": ""},
        {"Sec-WebSocket-Key": "short"},
    ],
)
async def test_handshakes_that_break_the_rules_are_refused(debug_hub: RunningHub, headers: dict[str, str]) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        answer = await socket.upgrade(headers=headers)
        assert 400 <= answer.status < 500
    await still_serves(debug_hub)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n",
        b"GET /ws HTTP/9.9\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"POST /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_garbage_instead_of_a_handshake(debug_hub: RunningHub, garbage: bytes) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        await socket.write(garbage)
        answer = await socket.http_answer()
        assert 400 <= answer.status < 500
    await still_serves(debug_hub)


async def test_an_endless_header_is_cut_off(debug_hub: RunningHub) -> None:
    async with raw_tcp(debug_hub.port) as socket:
        await socket.write(b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        before = debug_hub.rss()
        try:
            for _ in range(200):
                await socket.write(b"X-Filler: " + b"a" * 100_000 + b"\r\n")
        except ConnectionError:
            return
        assert debug_hub.rss() - before < 8 * 2**20, "a handshake of 20 MB is kept in memory"


async def still_serves(hub: RunningHub) -> None:
    async with raw_socket(hub.port) as socket:
        await socket.write(frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'))
        assert b"pong" in (await socket.frame()).payload


def test_health(well_hub: RunningHub) -> None:
    """Which an executor that stands still for a moment changes, and which comes back."""

    def is_well() -> bool:
        answer = well_hub.get("/health", {"Host": "10.0.0.7"})
        return (answer.status, answer.json()["status"]) == (200, "healthy")

    eventually(is_well, "it is healthy")


def test_ready(well_hub: RunningHub) -> None:
    def is_ready() -> bool:
        answer = well_hub.get("/ready", {"Host": "10.0.0.7"})
        return (answer.status, answer.json()) == (200, {"ready": True, "causes": []})

    eventually(is_ready, "it is ready")


def test_probes_need_no_token_and_metrics_do(guarded_hub: RunningHub) -> None:
    assert guarded_hub.get("/health").status == 200
    assert guarded_hub.get("/ready").status == 200
    refused = guarded_hub.get("/metrics")
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["code"] == ErrorCode.UNAUTHENTICATED


def test_metrics_refuse_a_wrong_host(debug_hub: RunningHub) -> None:
    assert debug_hub.get("/metrics", {"Host": "evil.example"}).status == 403


def test_a_malformed_origin_is_refused_and_not_a_server_error(debug_hub: RunningHub) -> None:
    assert debug_hub.get("/metrics", {"Origin": "http://[bad"}).status == 403


@pytest.mark.parametrize("path", ["/nope", "/health/", "/ws", "/../etc/passwd", "/metrics/x"])
def test_unknown_paths(debug_hub: RunningHub, path: str) -> None:
    assert debug_hub.get(path).status in (404, 307, 426)
    assert debug_hub.get("/nope").status == 404


async def test_metrics_are_prometheus_text_and_count_what_was_called(debug_hub: RunningHub) -> None:
    def calls() -> dict[tuple[str, str], float]:
        answer = debug_hub.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        assert {"trunkline_connections", "trunkline_calls_in_flight", "trunkline_executors"} <= families.keys()
        samples = families["trunkline_calls"].samples
        return {(s.labels["method"], s.labels["outcome"]): s.value for s in samples if s.name.endswith("_total")}

    before = calls()
    async with peer(debug_hub.url) as connection:
        for _ in range(3):
            await connection.result("debug.echo", {"value": 1})
        await connection.error("debug.fail")
        await connection.error("nobody.serves.this")
    after = calls()
    grown = {key: after[key] - before.get(key, 0) for key in after}
    assert grown["debug.echo", "ok"] == 3
    assert grown["debug.fail", "INTERNAL_ERROR"] == 1
    assert grown["(unknown)", "METHOD_NOT_FOUND"] == 1
    assert not any("nobody" in method for method, _ in after)


def test_the_first_page(debug_hub: RunningHub) -> None:
    answer = debug_hub.get("/")
    assert answer.status == 200
    assert "text/html" in answer.headers["content-type"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert debug_hub.get("/", {"Host": "evil.example"}).status == 403
