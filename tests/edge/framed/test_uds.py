"""Unix sockets of a real hub: HTTP, WebSocket and frames through them; their files; who may come in."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import websockets
from websockets.asyncio.client import unix_connect

from tests.support.framed import FramedPeer, packet, unix_peer
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, clean_environment, ready_hub
from tests.support.match import require
from tests.support.peer import Peer
from tests.support.timing import PATIENCE, SCALE, SOON, eventually, records_in
from trunkline.config import load_settings
from trunkline.edge.framed.unix import UnixSocket
from trunkline.settings.naming import SettingsError
from trunkline_protocol.errors import ErrorCode

TOKEN = "s3cret"


class Paths:
    def __init__(self, folder: Path) -> None:
        self.http = folder / "http.sock"
        self.framed = folder / "framed.sock"
        self.audit = folder / "audit.jsonl"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return Paths(tmp_path_factory.mktemp("uds"))


@pytest.fixture(scope="module")
def uds_hub(paths: Paths) -> Iterator[RunningHub]:
    """TCP, HTTP over a Unix socket, and frames over another."""
    arguments = ["--uds", str(paths.http), "--uds-framed", str(paths.framed), "--uds-mode", "660"]
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, arguments=arguments) as hub:
        yield hub


@pytest.fixture
def spare(tmp_path: Path) -> Path:
    return tmp_path / "hub.sock"


def serve(*arguments: str, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trunkline.cli", "serve", "--packs", "none", "--no-demo", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(env)
    )


def listening(process: subprocess.Popen[str]) -> list[str]:
    """What a hub without executors' methods says once it listens."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "listening on" in line, process.communicate()
    return [line.split(" on ")[1].strip()]


def get(path: Path, target: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("anything.example", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# --- HTTP and WebSocket ---


def test_http_whatever_the_host(uds_hub: RunningHub, paths: Paths) -> None:
    assert get(paths.http, "/ready")[0] == 200
    assert get(paths.http, "/metrics")[0] == 200, "Host is anything.example"
    assert get(paths.http, "/", Host="evil.example")[0] == 200
    assert uds_hub.get("/metrics", {"Host": "evil.example"}).status == 403, "TCP checks it still"


async def test_websocket(uds_hub: RunningHub, paths: Paths) -> None:
    async with unix_connect(str(paths.http), uri="ws://some.name/ws", compression=None) as connected:
        peer = Peer(connected)
        assert (await peer.result("debug.echo", {"value": "x" * 300_000})) == "x" * 300_000
        await (await connected.ping())
        require({"result": {"chunks": 500}}, await peer.call("debug.count", {"n": 500}))


@pytest.fixture(scope="module")
def strict_paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return Paths(tmp_path_factory.mktemp("strict"))


@pytest.fixture(scope="module")
def strict_hub(strict_paths: Paths) -> Iterator[RunningHub]:
    """One that asks its peers soon whether they are there, keeps little for them, and writes down who they are."""
    env = {
        "TRUNKLINE_PING_INTERVAL": "0.2",
        "TRUNKLINE_PING_TIMEOUT": str(3 * SCALE),
        "TRUNKLINE_OUTBOX_BYTES": str(256 * 1024),
        "TRUNKLINE_AUDIT_FILE": str(strict_paths.audit),
    }
    arguments = ["--uds", str(strict_paths.http), "--uds-framed", str(strict_paths.framed)]
    with ready_hub(arguments=arguments, env=env) as hub:
        yield hub


async def test_pings_of_the_hub_over_a_unix_socket(strict_hub: RunningHub, strict_paths: Paths) -> None:
    """Who answers them stays, longer than who does not."""
    async with unix_connect(str(strict_paths.http), uri="ws://localhost/ws", ping_interval=None) as connected:
        silent = socket.socket(socket.AF_UNIX)
        silent.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(silent, str(strict_paths.http))
        head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        await loop.sock_sendall(silent, (head + key).encode())
        async with asyncio.timeout(PATIENCE):
            while await loop.sock_recv(silent, 4096):
                pass
        silent.close()
        assert (await Peer(connected).result("rpc.ping"))["pong"]


# --- frames ---


@pytest.mark.parametrize("whole", [True, False])
async def test_frames(uds_hub: RunningHub, paths: Paths, whole: bool) -> None:
    async with unix_peer(paths.framed) as peer:
        request = packet(b'{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":{"value":[1]}}')
        for part in [request] if whole else [request[i : i + 1] for i in range(len(request))]:
            await peer.raw(part)
            await asyncio.sleep(0)  # a turn of the loop, in which it is sent
        assert (await peer.receive()) == {"jsonrpc": "2.0", "id": 1, "result": [1]}


async def test_many_peers_at_once(uds_hub: RunningHub, paths: Paths) -> None:
    async def one(number: int) -> None:
        async with unix_peer(paths.framed) as peer:
            assert (await peer.result("debug.echo", {"value": number})) == number
            require({"result": {"chunks": 20}}, await peer.call("debug.count", {"n": 20}))

    await asyncio.gather(*map(one, range(50)))


async def test_topics_and_callees_between_doors(uds_hub: RunningHub, paths: Paths) -> None:
    async with unix_peer(paths.framed) as one, websockets.connect(uds_hub.url) as socket_of_two:
        two = Peer(socket_of_two)
        await one.result("subscribe", {"topic": "doors.a"})
        await one.result("method.register", {"method": "one.upper"})
        await two.result("publish", {"topic": "doors.a", "data": 5})
        assert (await one.receive())["params"]["data"] == 5
        asked = await two.request("one.upper", {"text": "x"})
        await one.send({"jsonrpc": "2.0", "id": (await one.receive())["id"], "result": "X"})
        assert (await two.reply(asked))["result"] == "X"


async def test_who_shuts_down_its_side_is_still_answered(uds_hub: RunningHub, paths: Paths) -> None:
    async with unix_peer(paths.framed) as peer:
        asked = await peer.request("debug.sleep", {"seconds": 0.5})
        peer.stream.writer.write_eof()
        assert (await peer.reply(asked))["result"]["slept"] == 0.5
        await peer.ended()


async def test_who_leaves_ends_its_calls(uds_hub: RunningHub, paths: Paths, tmp_path: Path) -> None:
    marker = tmp_path / "cleaned"
    async with unix_peer(paths.framed) as peer:
        await peer.request("lab.cleanup", {"marker": str(marker)})
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
    await asyncio.to_thread(eventually, marker.exists, "the call was cancelled")


async def test_a_session_over_two_connections(uds_hub: RunningHub, paths: Paths) -> None:
    async with unix_peer(paths.framed) as first:
        session = (await first.result("session.open"))["session"]
        call = {"jsonrpc": "2.0", "id": "s", "seq": 1, "method": "debug.sleep", "params": {"seconds": 0.5}}
        await first.send(call)
        await first.result("rpc.ping")
    async with unix_peer(paths.framed) as second:
        resumed = await second.result("session.open", {"resume": {"session": session, "received": 0}})
        assert resumed["resumed"]
        assert (await second.reply("s"))["result"]["slept"] == 0.5


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"{", ErrorCode.PARSE_ERROR),
        (b"\xff\xfe", ErrorCode.PARSE_ERROR),
        (b"[" * 100_000, ErrorCode.PARSE_ERROR),
        (b"[]", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_what_is_no_message(uds_hub: RunningHub, paths: Paths, bad: bytes, code: ErrorCode) -> None:
    async with unix_peer(paths.framed) as peer:
        await peer.raw(packet(bad))
        require({"id": None, "error": {"code": code}}, await peer.receive())
        assert (await peer.result("rpc.ping"))["pong"]


async def test_a_length_that_cannot_be_ends_one_peer_and_no_other(uds_hub: RunningHub, paths: Paths) -> None:
    async with unix_peer(paths.framed) as good, unix_peer(paths.framed) as bad:
        await bad.raw(b"\xff\xff\xff\xff")
        require({"error": {"data": {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES"}}}, await bad.receive())
        await bad.ended()
        assert (await good.result("rpc.ping"))["pong"]


async def test_a_peer_that_does_not_read_is_cut_off_and_no_other(strict_hub: RunningHub, strict_paths: Paths) -> None:
    async with unix_peer(strict_paths.framed) as slow, unix_peer(strict_paths.framed) as quick:
        slow.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):  # cut off
            for number in range(40):
                await slow.request("debug.echo", {"value": "x" * 60_000}, id=number)
        await asyncio.to_thread(strict_hub.wait_for, "reads too slowly; closing")
        assert (await quick.result("debug.echo", {"value": 1})) == 1


def test_every_peer_is_named_in_the_audit(strict_hub: RunningHub, strict_paths: Paths) -> None:
    name = f"unix:{os.getpid()}" if sys.platform == "linux" else "unix"
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(strict_paths.framed))
        peer.sendall(packet(b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'))
        assert peer.recv(1000)

    def is_named() -> bool:
        entries = records_in(strict_paths.audit)
        return name in {entry.get("peer") for entry in entries if entry.get("method") == "rpc.ping"}

    eventually(is_named, "the peer is in the audit file")


# --- who may come in ---


@pytest.fixture(scope="module")
def guarded(paths: Paths) -> Iterator[RunningHub]:
    folder = paths.http.parent
    arguments = ["--uds", str(folder / "gh.sock"), "--uds-framed", str(folder / "gf.sock")]
    with ready_hub(arguments=arguments, env={"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_AUTH_SECONDS": str(2 * SOON)}) as hub:
        yield hub


async def test_frames_begin_with_auth_where_there_are_credentials(guarded: RunningHub, paths: Paths) -> None:
    async with unix_peer(paths.framed.with_name("gf.sock")) as peer:
        assert (await peer.error("debug.echo", {"value": 1}))["code"] == ErrorCode.UNAUTHENTICATED
        assert "admin" in (await peer.result("auth", {"token": TOKEN}))["roles"]
        assert (await peer.result("debug.echo", {"value": "x" * 100_000})) == "x" * 100_000


async def refused(peer: FramedPeer) -> None:
    """The last word is UNAUTHENTICATED, and then nothing."""
    while (message := await peer.receive()).get("id") is not None:
        assert "result" not in message
    require({"error": {"code": ErrorCode.UNAUTHENTICATED}}, message)
    await peer.ended()


async def test_a_wrong_token_no_token_and_too_much_before_it(guarded: RunningHub, paths: Paths) -> None:
    path = paths.framed.with_name("gf.sock")
    async with unix_peer(path) as wrong:
        await wrong.request("auth", {"token": "guess"})
        await refused(wrong)
    async with unix_peer(path) as silent:
        await refused(silent)
    async with unix_peer(path) as greedy:
        await greedy.raw(packet(b" " * 100_000))
        assert (await greedy.receive())["error"]["code"] == ErrorCode.INVALID_REQUEST
    assert TOKEN not in guarded.words


async def test_websocket_wants_the_token_as_over_tcp(guarded: RunningHub, paths: Paths) -> None:
    path = str(paths.http.with_name("gh.sock"))
    with pytest.raises(websockets.InvalidStatus):
        await unix_connect(path, uri="ws://localhost/ws")
    async with unix_connect(
        path, uri="ws://localhost/ws", additional_headers={"Authorization": f"Bearer {TOKEN}"}
    ) as connected:
        assert (await Peer(connected).result("rpc.ping"))["pong"]


# --- the file ---


async def goodbye_of(process: subprocess.Popen[str], path: Path) -> None:
    """Ask the hub to stop: its peer hears why."""
    async with unix_peer(path) as peer:
        await peer.result("rpc.ping")
        process.terminate()
        error = (await peer.receive())["error"]
        require({"code": ErrorCode.WORKER_UNAVAILABLE, "data": {"close": 1012}}, error)
        await peer.ended()


def test_a_unix_socket_alone_opens_no_port_and_its_hub_says_why_it_goes(spare: Path) -> None:
    with serve("--uds-framed", str(spare)) as process:
        try:
            assert listening(process) == [f"unix:{spare} (packet4, jsonrpc)"]
            ports = [c for c in psutil.Process(process.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert not ports
            assert stat.S_IMODE(spare.stat().st_mode) == 0o600
            asyncio.run(goodbye_of(process, spare))
            assert process.wait(PATIENCE) == 0
            assert not spare.exists(), "removed at the end"
            assert [*spare.parent.iterdir()] in ([], [spare.parent / "data"])
        finally:
            process.kill()


def test_the_mode_may_be_chosen(uds_hub: RunningHub, paths: Paths) -> None:
    assert {stat.S_IMODE(each.stat().st_mode) for each in (paths.http, paths.framed)} == {0o660}


def test_a_living_hub_s_file_is_not_replaced(uds_hub: RunningHub, paths: Paths) -> None:
    with serve("--uds", str(paths.http)) as second:
        _, said = second.communicate(timeout=30 * SCALE)
    assert second.returncode == 2
    assert f"{paths.http} is in use" in said
    assert get(paths.http, "/health")[0] == 200, "the first one is unharmed"


def test_a_dead_hub_s_file_is_replaced(spare: Path) -> None:
    """What is left of one that was killed: a socket that nobody listens at."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(spare))
    left.listen()
    left.close()
    assert stat.S_ISSOCK(spare.stat().st_mode)
    with contextlib.closing(UnixSocket(spare, 0o600).listener), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(spare))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(spare: Path, kind: str) -> None:
    if kind == "file":
        spare.write_text("precious")
    elif kind == "folder":
        spare.mkdir()
    else:
        spare.symlink_to("elsewhere")
    with pytest.raises(FileExistsError, match="not a socket"):
        UnixSocket(spare, 0o600)
    assert os.path.lexists(spare)


def test_where_no_socket_can_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        UnixSocket(tmp_path / "nowhere" / "hub.sock", 0o600)
    with serve("--uds", str(tmp_path / ("x" * 120))) as process:
        _, said = process.communicate(timeout=30 * SCALE)
    assert process.returncode == 2
    assert "x" * 120 in said
    assert "Traceback" not in said


def test_only_its_own_file_is_removed(spare: Path) -> None:
    ours = UnixSocket(spare, 0o600)
    ours.listener.close()
    theirs = UnixSocket(spare, 0o600)  # ours is dead: it is replaced
    ours.remove()
    assert spare.exists()
    theirs.remove()
    theirs.listener.close()
    assert not spare.exists()


@pytest.mark.parametrize("mode", ["rw", "9", "7777"])
def test_a_mode_that_cannot_be(mode: str) -> None:
    with pytest.raises(SettingsError, match="uds_mode"):
        load_settings(None, uds="x.sock", uds_mode=mode)


def test_a_mode_that_cannot_be_is_2() -> None:
    with serve("--uds", "x.sock", "--uds-mode", "rw") as process:
        _, said = process.communicate(timeout=30 * SCALE)
    assert process.returncode == 2
    assert "uds_mode" in said
