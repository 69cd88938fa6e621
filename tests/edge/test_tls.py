"""TLS at the hub's port: its files, what is refused, certificates of clients, and what a reload changes."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.asked import AskingHub, asking_hub
from tests.support.authority import Authority, Pair
from tests.support.frames import TEXT, frame, raw_tcp
from tests.support.timing import PATIENCE, START, until
from trunkline.client import ConnectError, connect
from trunkline.edge import acceptor
from trunkline.edge.tls import DAY, WARN_DAYS, Tls, TlsFiles

PASSWORD: Final = "the password of these tests"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(pair: Pair, **others: Any) -> TlsFiles:
    return TlsFiles(pair.certificate, pair.key, **others)


# --- the files ---


@pytest.mark.parametrize("days", [1.0, 90.0, 365.0 * 40])
def test_when_the_certificate_ends_is_read_from_it(authority: Authority, days: float) -> None:
    pair = authority.pair(days=days)  # beyond 2049 times are written otherwise
    assert Tls(files(pair)).ends == pair.ends


@pytest.mark.parametrize(
    ("days", "words"), [(90.0, None), (WARN_DAYS - 1.0, "ends in 1"), (-3.0, "ended 3."), (0.5, "ends in 0.")]
)
def test_a_certificate_that_ends_soon_is_told(
    authority: Authority, days: float, words: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.pair(days=days)
    with caplog.at_level(logging.INFO):
        told = Tls(files(pair)).expiring()
    assert [words in each and str(pair.certificate) in each for each in told if words] == [True] * bool(words)
    assert bool(told) == bool(words)
    first, *warnings = caplog.records
    assert first.getMessage() == "TLS certificate"
    assert vars(first)["days"] == pytest.approx((pair.ends - time.time()) / DAY, abs=0.2)
    assert [record.getMessage() for record in warnings] == told


def without_key(folder: Path, pair: Pair) -> TlsFiles:
    return TlsFiles(pair.certificate)


def without_file(folder: Path, pair: Pair) -> TlsFiles:
    return TlsFiles(pair.certificate, folder / "nowhere.key")


def of_another(folder: Path, pair: Pair) -> TlsFiles:
    return TlsFiles(pair.certificate, Authority(folder, "second").pair("other").key)


def encrypted(folder: Path, pair: Pair) -> TlsFiles:
    return files(Authority(folder, "second").pair("locked", password=PASSWORD))


def wrongly_encrypted(folder: Path, pair: Pair) -> TlsFiles:
    (folder / "password").write_text("another one\n")
    return files(Authority(folder, "second").pair("locked", password=PASSWORD), key_password=folder / "password")


def no_pem(folder: Path, pair: Pair) -> TlsFiles:
    pair.certificate.write_text("this is no certificate")
    return files(pair)


def no_text(folder: Path, pair: Pair) -> TlsFiles:
    pair.certificate.write_bytes(b"\xff\xfe\x00")
    return files(pair)


def no_authority(folder: Path, pair: Pair) -> TlsFiles:
    (folder / "ca.pem").write_text("nobody")
    return files(pair, client_ca=folder / "ca.pem")


BAD: Final[dict[Callable[[Path, Pair], TlsFiles], str]] = {
    without_key: "hub.pem: cannot be used",
    without_file: "nowhere.key: cannot be read: No such file",
    of_another: "other.key: the key is not that of the certificate",
    encrypted: "locked.key: is encrypted: name the file of its password in TRUNKLINE_TLS_KEY_PASSWORD_FILE",
    wrongly_encrypted: "locked.key: cannot be used",
    no_pem: "hub.pem",
    no_text: "hub.pem: is not PEM",
    no_authority: "ca.pem: cannot be used",
}


@pytest.mark.parametrize("made", BAD, ids=[made.__name__ for made in BAD])
def test_files_that_cannot_be_used_are_refused_with_what_is_wrong(
    authority: Authority, tmp_path: Path, made: Callable[[Path, Pair], TlsFiles]
) -> None:
    with pytest.raises(ValueError) as refusal:
        Tls(made(tmp_path, authority.pair()))
    assert BAD[made] in str(refusal.value)
    assert PASSWORD not in str(refusal.value)


def test_an_encrypted_key_is_read_with_its_password(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    assert Tls(files(authority.pair(password=PASSWORD), key_password=tmp_path / "password"))


def test_a_key_that_others_can_read_is_warned_of(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    pair = authority.pair()
    pair.key.chmod(0o644)
    Tls(files(pair))
    assert [vars(record)["path"] for record in caplog.records] == [str(pair.key)]


def test_a_reload_of_bad_files_changes_nothing(authority: Authority) -> None:
    pair = authority.pair()
    tls = Tls(files(pair))
    before, ends = tls.context, tls.ends
    pair.key.write_text("half a key")
    with pytest.raises(ValueError, match=r"hub\.key"):
        tls.reload()
    assert (tls.context, tls.ends) == (before, ends)
    renewed = authority.pair(days=200)
    tls.reload()
    assert tls.context is not before
    assert tls.ends == renewed.ends


# --- connections ---


def settings(pair: Pair, **others: Any) -> dict[str, Any]:
    return {"tls_certificate": pair.certificate, "tls_key": pair.key, **others}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_calls_events_and_large_messages_go_over_tls(authority: Authority, tmp_path: Path) -> None:
    data = "x" * (3 * 2**20)
    async with (
        asking_hub(tmp_path, **settings(authority.pair())) as hub,
        connect(f"wss://localhost:{hub.port}/ws", token="good", ssl=authority.trusting()) as client,
    ):
        assert (await client.call("rpc.ping"))["pong"] is True
        async with client.subscribe("orders.new") as subscription, asyncio.timeout(START):
            await client.publish("orders.new", data)
            event = await anext(aiter(subscription))
        assert getattr(event, "data", None) == data


async def test_http_goes_over_tls_and_a_refused_body_lets_the_answer_be_read(
    authority: Authority, tmp_path: Path
) -> None:
    body = b"x" * (2 * 2**20)
    async with (
        asking_hub(tmp_path, max_message_bytes=65536, **settings(authority.pair())) as hub,
        raw_tcp(hub.port, authority.trusting()) as socket,
    ):
        head = (
            "POST /rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        await socket.write(head.encode())
        answer = await socket.http_answer()
        assert answer.status == 413
        await socket.write(body)
        assert await socket.ended()


async def test_the_close_handshake_works_over_tls(authority: Authority, tmp_path: Path) -> None:
    async with (
        asking_hub(tmp_path, **settings(authority.pair())) as hub,
        raw_tcp(hub.port, authority.trusting()) as socket,
    ):
        assert (await socket.upgrade(headers={"Host": "localhost"} | bearer("good"))).status == 101
        await socket.write(frame(TEXT, b"\xff"))  # no UTF-8
        assert (await socket.frame()).close_code == 1007
        assert await socket.ended()


@pytest.mark.parametrize("kind", ["no TLS", "another authority", "TLS 1.1"])
async def test_who_does_not_speak_it_or_trusts_others_gets_nothing(
    authority: Authority, tmp_path: Path, kind: str
) -> None:
    async with asking_hub(tmp_path, **settings(authority.pair())) as hub:
        if kind == "no TLS":
            async with raw_tcp(hub.port) as socket:
                await socket.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await socket.http_answer()
        else:
            trusting = Authority(tmp_path, "another").trusting() if kind == "another authority" else old(authority)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with raw_tcp(hub.port, trusting):
                    pass
        async with raw_tcp(hub.port, authority.trusting()) as socket:
            assert (await socket.upgrade(headers={"Host": "localhost"} | bearer("good"))).status == 101


def old(authority: Authority) -> ssl.SSLContext:
    context = authority.trusting()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


async def test_the_newest_version_is_spoken(authority: Authority, tmp_path: Path) -> None:
    async with asking_hub(tmp_path, **settings(authority.pair())) as hub:
        reader, writer = await asyncio.open_connection("localhost", hub.port, ssl=authority.trusting())
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        assert reader is not None


async def upgraded(hub: AskingHub, tls: ssl.SSLContext, **headers: str) -> int:
    async with raw_tcp(hub.port, tls) as socket:
        return (await socket.upgrade(headers={"Host": "localhost"} | bearer("good") | headers)).status


async def asked_by_http(hub: AskingHub, tls: ssl.SSLContext, path: str) -> int:
    async with raw_tcp(hub.port, tls) as socket:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n\r\n"
        await socket.write(head.encode())
        return (await socket.http_answer()).status


def common_name(hub: AskingHub) -> Any:
    certificate = hub.directory.asked[-1].certificate
    return None if certificate is None else certificate["subject"][-1][0][1]


async def test_the_hook_is_told_of_the_clients_verified_certificate(authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")
    given = settings(authority.pair(), tls_client_ca=clients.certificate, tls_client="optional")
    mine = authority.trusting(clients.pair("node-1"))
    forged = {"X-Client-Cert": "CN=admin", "X-SSL-Client-S-DN": "CN=admin"}
    async with asking_hub(tmp_path, **given) as hub:
        assert (await upgraded(hub, mine, **forged), common_name(hub)) == (101, "node-1")
        assert (await asked_by_http(hub, mine, "/metrics"), common_name(hub)) == (200, "node-1")
        assert (await asked_by_http(hub, mine, "/events?topic=a"), common_name(hub)) == (200, "node-1")
        assert (await upgraded(hub, authority.trusting(), **forged), common_name(hub)) == (101, None)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await upgraded(hub, authority.trusting(authority.pair("stranger")))
        assert len(hub.directory.asked) == 4


async def test_a_client_without_a_certificate_is_refused_where_one_is_required(
    authority: Authority, tmp_path: Path
) -> None:
    given = settings(authority.pair(), tls_client_ca=authority.certificate)
    async with asking_hub(tmp_path, **given) as hub:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await upgraded(hub, authority.trusting())
        assert await upgraded(hub, authority.trusting(authority.pair("node-1"))) == 101


async def test_a_reload_is_for_new_connections_and_a_bad_pair_keeps_the_old_one(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.pair(days=100)
    audit = tmp_path / "audit.jsonl"
    async with (
        asking_hub(tmp_path, audit_file=audit, **settings(pair)) as hub,
        connect(f"wss://localhost:{hub.port}/ws", token="good", ssl=authority.trusting()) as client,
    ):
        pair.certificate.write_text("half a certificate")
        hub.hub.reload()
        assert "the previous TLS certificate stays in force" in caplog.text
        assert await served_until(hub, authority) == pair.ends
        renewed = authority.pair(days=200)
        hub.hub.reload()
        assert await served_until(hub, authority) == renewed.ends
        assert (await client.call("rpc.ping"))["pong"] is True
    told = [line["certificate"] for line in map(json.loads, audit.read_text().splitlines()) if "certificate" in line]
    assert [words.partition(":")[0] for words in told] == ["the previous one stays in force", "read again"]


async def served_until(hub: AskingHub, authority: Authority) -> float:
    _reader, writer = await asyncio.open_connection("localhost", hub.port, ssl=authority.trusting())
    ends = ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"])
    writer.close()
    return ends


async def test_health_and_metrics_tell_of_a_certificate_that_ends(authority: Authority, tmp_path: Path) -> None:
    pair = authority.pair(days=3)
    async with asking_hub(tmp_path, **settings(pair)) as hub:
        judged = hub.hub.parts.health.judgement()
        assert any(str(pair.certificate) in cause and "send SIGHUP" in cause for cause in judged.causes)
        readings = {reading.name: reading.values for reading in hub.hub.parts.readings()()}
        assert readings["trunkline_tls_certificate_end_time_seconds"] == {"": pair.ends}


async def test_the_unix_socket_has_no_tls(authority: Authority, tmp_path: Path) -> None:
    async with asking_hub(tmp_path, uds=tmp_path / "http", **settings(authority.pair())):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "http")
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_handshakes_that_do_not_end_keep_no_other_address_out(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MAX_HANDSHAKES", 3)
    async with asking_hub(tmp_path, **settings(authority.pair())) as hub:
        held = [await asyncio.open_connection("127.0.0.1", hub.port) for _ in range(3)]
        handshakes = hub.hub.parts.tls
        assert handshakes is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b"", "there is no room for a fourth one of this address"
        async with raw_tcp_from("127.0.0.2", hub.port, authority.trusting()) as status:
            assert status == 101
        async with asyncio.timeout(PATIENCE):
            assert await held[0][0].read() == b"", "its oldest one made room"
        for _reader, each in (*held, (reader, writer)):
            each.close()


class raw_tcp_from:  # used as raw_tcp is
    """An upgrade from another address of this machine."""

    def __init__(self, address: str, port: int, tls: ssl.SSLContext) -> None:
        self._connecting = asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(address, 0))

    async def __aenter__(self) -> int:
        reader, self._writer = await self._connecting
        self._writer.write(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Authorization: Bearer good\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with asyncio.timeout(PATIENCE):
            return int((await reader.readline()).split()[1])

    async def __aexit__(self, *_error: object) -> None:
        self._writer.close()


async def test_a_client_says_why_it_does_not_trust_a_hub(authority: Authority, tmp_path: Path) -> None:
    async with asking_hub(tmp_path, **settings(authority.pair())) as hub:
        with pytest.raises(ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await connect(f"wss://localhost:{hub.port}/ws", token="good", reconnect=False)
        await until(lambda: not hub.hub.parts.context.listeners, "nobody came in")
    with pytest.raises(ValueError, match="wss URLs"):
        connect("ws://localhost/ws", ssl=authority.trusting())
