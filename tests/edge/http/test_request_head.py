"""What the head of a request has to be at every door that speaks HTTP: one Host, a path, and whose it is."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.edge.http.http_client import send
from tests.support.hub import RunningHub, ready_hub
from tests.support.timing import PATIENCE, eventually, records_in
from trunkline.config import load_settings
from trunkline.edge.http.request_head import RequestHeads
from trunkline.settings.naming import SettingsError
from trunkline_protocol.errors import ErrorCode

TOKEN: Final = "a-token-of-this-test"
MESSAGE: Final = b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'
UPGRADE: Final = (
    "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
PARAMS: Final = b'{"value":1}'
JSON: Final = ("Content-Type: application/json", "Accept: application/json")

DOORS: Final[dict[str, tuple[str, tuple[str, ...], bytes]]] = {
    "ws": ("GET /ws", UPGRADE, b""),
    "phoenix": ("GET /socket/websocket?vsn=2.0.0", UPGRADE, b""),
    "longpoll": ("GET /socket/longpoll?vsn=2.0.0", (), b""),
    "rpc": ("POST /rpc", JSON, MESSAGE),
    "api": ("POST /api/v1/debug/echo", JSON, PARAMS),
    "mcp": ("POST /mcp", JSON, MESSAGE),
    "metrics": ("GET /metrics", (), b""),
    "detailed": ("GET /health/detailed", (), b""),
    "documents": ("GET /openapi.json", (), b""),
    "dashboard": ("GET /", (), b""),
    "nothing": ("GET /nothing", (), b""),
}


class Answer:
    def __init__(self, head: str, body: bytes) -> None:
        status, *lines = head.split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = body

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


def ask(
    port: int,
    door: str,
    *fields: str,
    version: str = "1.1",
    host: tuple[str, ...] | None = None,
    uds: Path | None = None,
) -> Answer:
    """One request by hand, with these lines of Host; the real one if None."""
    start, more, body = DOORS[door]
    hosts = (f"Host: 127.0.0.1:{port}",) if host is None else host
    lines = [f"{start} HTTP/{version}", *hosts, *more, *fields, *([f"Content-Length: {len(body)}"] if body else [])]
    with socket.socket(socket.AF_UNIX if uds else socket.AF_INET) as tcp:
        tcp.settimeout(PATIENCE)
        tcp.connect(str(uds) if uds else ("127.0.0.1", port))
        tcp.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        with tcp.makefile("rb") as file:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = file.readline()
                assert line, f"cut off after {head!r}"
                head += line
            answer = Answer(head.decode("latin-1").strip(), b"")
            answer.body = file.read(int(answer.headers.get("content-length", 0)))
    return answer


# --- one Host ---

BAD_HOSTS: Final = {
    "none": (),
    "two": ("Host: 127.0.0.1", "Host: 127.0.0.1"),
    "two, one of them foreign": ("Host: 127.0.0.1", "Host: evil.example"),
    "a list": ("Host: localhost:1, evil",),
    "userinfo": ("Host: localhost:1@evil",),
    "a space": ("Host: localhost evil",),
    "a path": ("Host: localhost/evil",),
    "a port that is none": ("Host: localhost:evil",),
    "empty": ("Host: ",),
    "a port alone": ("Host: :8765",),
    "half a bracket": ("Host: [::1",),
    "not ASCII": ("Host: localhost\xe9",),
}


@pytest.mark.parametrize("host", BAD_HOSTS.values(), ids=BAD_HOSTS)
@pytest.mark.parametrize("door", DOORS)
def test_a_host_that_cannot_be_is_400_at_every_door(debug_hub: RunningHub, door: str, host: tuple[str, ...]) -> None:
    """RFC 9112, 3.2. Whoever reads the line otherwise than a proxy before it does sees another name."""
    answer = ask(debug_hub.port, door, host=host)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.error["code"] == ErrorCode.INVALID_REQUEST
    assert "Host" in answer.error["message"]


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_have_one_too(debug_hub: RunningHub, path: str) -> None:
    for lines in (("Host: a", "Host: b"), ("Host: a, b",)):
        with socket.create_connection(("127.0.0.1", debug_hub.port), PATIENCE) as tcp:
            tcp.sendall("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
            assert tcp.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("start", ["GET http://127.0.0.1/metrics", "GET http://evil.example/", "GET ws://localhost/ws"])
def test_what_is_asked_of_a_proxy_is_400(debug_hub: RunningHub, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOORS, "proxy", (start, UPGRADE if "/ws" in start else (), b""))
    answer = ask(debug_hub.port, "proxy")
    assert answer.status == 400
    assert "not a proxy" in answer.error["message"]


def test_a_refused_request_disturbs_no_other_of_its_connection(debug_hub: RunningHub) -> None:
    """The one before it is answered as ever, nothing after it is taken."""
    good = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{debug_hub.port}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", debug_hub.port), PATIENCE) as tcp:
        tcp.sendall((good + good.replace("Host:", "Host: a, b\r\nX-Y:") + good).encode())
        received = b""
        while part := tcp.recv(65_536):
            received += part
    assert received.count(b"HTTP/1.1 ") == 2
    assert received.index(b" 200 ") < received.index(b" 400 ")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:", "[::1]:8765"])
def test_a_host_that_can_be(debug_hub: RunningHub, host: str) -> None:
    assert ask(debug_hub.port, "metrics", host=(f"Host: {host}",)).status == 200
    assert ask(debug_hub.port, "ws", host=(f"Host: {host}",)).status == 101


# --- nobody authenticates, and it came through a proxy ---

MARKS: Final = (
    "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-For:", "Forwarded: for=203.0.113.7",
    "X-Forwarded-Host: hub.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "X-Real-IP: 203.0.113.7",
    "Via: 1.1 proxy", "CF-Connecting-IP: 203.0.113.7", "True-Client-IP: 203.0.113.7", "x-FORWARDED-for: 203.0.113.7",
)  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("door", DOORS)
def test_what_came_through_a_proxy_is_refused_while_nobody_authenticates(
    debug_hub: RunningHub, door: str, mark: str
) -> None:
    answer = ask(debug_hub.port, door, mark)
    assert answer.status == 403
    assert answer.error["code"] == ErrorCode.FORBIDDEN
    assert "TRUNKLINE_TOKEN" in answer.error["message"], "the sentence that helps"


@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("ws", "phoenix")])
def test_so_is_http_1_0_which_proxies_speak_that_say_nothing_else(debug_hub: RunningHub, door: str) -> None:
    """nginx does, unless ``proxy_http_version`` says otherwise, and puts the hub's own address into Host."""
    answer = ask(debug_hub.port, door, version="1.0")
    assert answer.status == 403
    assert "TRUNKLINE_TOKEN" in answer.error["message"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/ready?x=1"])
@pytest.mark.parametrize("head", ["HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7", "HTTP/1.0"])
def test_probes_may_come_through_one(debug_hub: RunningHub, path: str, head: str) -> None:
    with socket.create_connection(("127.0.0.1", debug_hub.port), PATIENCE) as tcp:
        tcp.sendall(f"GET {path} {head}\r\n\r\n".encode())
        assert b" 200 " in tcp.recv(100)


def test_through_a_unix_socket_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "hub.sock"
    with ready_hub(arguments=["--uds", str(path)]) as hub:
        for door in ("ws", "rpc", "metrics", "dashboard"):
            assert ask(hub.port, door, MARKS[0], uds=path).status == 403
            assert ask(hub.port, door, host=("Host: a, b",), uds=path).status == 400
            assert ask(hub.port, door, host=("Host: x",), uds=path).status in (101, 200)


# --- whose it is ---


@pytest.fixture(scope="module")
def trusting_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHub, Path]]:
    """It wants a token, and knows a proxy: this machine."""
    audit = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    env = {
        "TRUNKLINE_TOKEN": TOKEN,
        "TRUNKLINE_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8",
        "TRUNKLINE_AUDIT_FILE": str(audit),
    }
    with ready_hub(env=env) as hub:
        yield hub, audit


@pytest.fixture(scope="module")
def guarded_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHub, Path]]:
    """It wants a token, and knows no proxy."""
    audit = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    env = {"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_AUDIT_FILE": str(audit), "FORWARDED_ALLOW_IPS": "*"}
    with ready_hub(env=env) as hub:
        yield hub, audit


def peers_after(audit: Path, port: int, door: str, *fields: str) -> set[str]:
    """What the audit log calls the peer of one request."""
    before = len(records_in(audit))
    assert ask(port, door, *fields, f"Authorization: Bearer {TOKEN}").status in (101, 200)
    last = "disconnected" if door in ("ws", "phoenix") else "call"
    lines: list[dict[str, Any]] = []

    def written() -> bool:
        lines[:] = records_in(audit)[before:]
        return any(line["event"] == last for line in lines)

    eventually(written, "the audit log has it, to the last line")
    return {line["peer"] for line in lines}


@pytest.mark.parametrize("door", ["ws", "phoenix", "rpc", "api"])
@pytest.mark.parametrize(
    ("fields", "peer"),
    [
        (("X-Forwarded-For: 203.0.113.7",), "203.0.113.7:0"),
        (("X-Forwarded-For: 127.0.0.1, 198.51.100.2, 203.0.113.7",), "203.0.113.7:0"),
        (("X-Forwarded-For: 198.51.100.2", "X-Forwarded-For: 203.0.113.7:4711, 10.1.2.3"), "203.0.113.7:4711"),
        (("X-Forwarded-For: [2001:db8::7]:4711",), "2001:db8::7:4711"),
    ],
)
def test_of_a_trusted_proxy_the_last_address_counts_that_is_none(
    trusting_hub: tuple[RunningHub, Path], door: str, fields: tuple[str, ...], peer: str
) -> None:
    hub, audit = trusting_hub
    assert peers_after(audit, hub.port, door, *fields) == {peer}


@pytest.mark.parametrize("door", ["ws", "phoenix", "rpc", "api"])
def test_nobody_else_is_believed(guarded_hub: tuple[RunningHub, Path], door: str) -> None:
    """And no variable of the HTTP server's opens that."""
    hub, audit = guarded_hub
    (peer,) = peers_after(audit, hub.port, door, "X-Forwarded-For: 203.0.113.7")
    assert peer.startswith("127.0.0.1:")


def test_refusals_have_the_same_peer(trusting_hub: tuple[RunningHub, Path]) -> None:
    hub, audit = trusting_hub
    for door in ("ws", "rpc"):
        assert ask(hub.port, door, "X-Forwarded-For: 203.0.113.9").status in (401, 403)
        assert ask(hub.port, door, "X-Forwarded-For: 203.0.113.9", host=("Host: a, b",)).status == 400

    def refused() -> bool:
        lines = records_in(audit)
        return [line["peer"] for line in lines if line["event"] == "refused"].count("203.0.113.9:0") == 4

    eventually(refused, "the audit log has all four")


@pytest.mark.parametrize(
    ("socket_peer", "forwarded_for", "peer"),
    [
        ("10.0.0.1", ["203.0.113.7"], ("203.0.113.7", 0)),
        ("192.0.2.1", ["203.0.113.7"], ("192.0.2.1", 99)),
        ("10.0.0.1", [], ("10.0.0.1", 99)),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], ("10.0.0.2", 0)),
        ("10.0.0.1", ["203.0.113.7, unknown"], ("10.0.0.1", 99)),
        ("10.0.0.1", ["203.0.113.7, <script>, 10.0.0.3"], ("10.0.0.3", 0)),
        ("10.0.0.1", [", ,"], ("10.0.0.1", 99)),
        ("::ffff:10.0.0.1", ["203.0.113.7"], ("203.0.113.7", 0)),
        ("::1", ["203.0.113.7"], ("203.0.113.7", 0)),
    ],
)
def test_the_peer(socket_peer: str, forwarded_for: list[str], peer: tuple[str, int]) -> None:
    heads = RequestHeads(["10.0.0.0/8", "::1"])
    assert heads.origin((socket_peer, 99), forwarded_for) == peer
    assert heads.origin(None, forwarded_for) is None, "a Unix socket has no address"


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.0/99", "*", "127.0.0.1,nginx"])
def test_proxies_are_addresses(value: str) -> None:
    with pytest.raises(SettingsError, match="trusted_proxies"):
        load_settings(trusted_proxies=value)


def test_with_a_token_a_proxy_may_forward(guarded_hub: tuple[RunningHub, Path]) -> None:
    hub, _audit = guarded_hub
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "203.0.113.7", "Content-Type": "application/json"}
    assert send(hub, "/rpc", MESSAGE, headers).status == 200
