"""Services elsewhere: what their probes find, and what becomes of health and readiness. With real sockets."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.health import empty_view
from tests.support.hub import RunningHub
from tests.support.ports import reserved_port
from tests.support.timing import START, eventually
from trunkline.config import GivenSettings, load_settings
from trunkline.control import probes
from trunkline.control.health import HealthWatch
from trunkline.control.probes import Probes
from trunkline.control.services import detailed_services
from trunkline.hub.principal import Principal
from trunkline.settings.naming import SettingsError
from trunkline.testing import MockHub


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port that answers whoever says something, or never where ``answer`` is None; and what was said."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))
        if answer is None:
            await reader.read()  # until the other has given up
        else:
            writer.write(answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], heard


async def probed(url: str, required: tuple[str, ...] = ()) -> Probes:
    watched = Probes({"it": url}, required)
    await watched.probe()
    return watched


@pytest.mark.parametrize(
    ("scheme", "answer", "said"),
    [
        ("http", b"HTTP/1.1 204 No Content\r\n\r\n", b"GET /live?a=1 HTTP/1.1\r\nHost: 127.0.0.1"),
        ("http", b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", b"GET /live"),
        ("redis", b"+PONG\r\n", b"PING\r\n"),
        ("redis", b"-NOAUTH Authentication required.\r\n", b"PING\r\n"),
        ("postgres", b"S", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
        ("postgresql", b"N", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
        ("tcp", b"", b""),
    ],
)
async def test_a_service_that_answers_is_healthy(scheme: str, answer: bytes, said: bytes) -> None:
    async with answering(answer) as (port, heard):
        watched = await probed(f"{scheme}://127.0.0.1:{port}/live?a=1", ("it",))
    found = watched.services["it"]
    assert found.status == "healthy"
    assert found.latency_ms is not None
    assert (watched.troubles(), watched.missing()) == ([], [])
    assert not said or heard[0].startswith(said)


@pytest.mark.parametrize(
    ("scheme", "answer", "why"),
    [
        ("http", b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "it answers with status 503"),
        ("http", b"SSH-2.0-OpenSSH_9.2\r\n", "it does not speak HTTP"),
        ("http", b"", "it closed the connection"),
        ("http", b"HTTP/1.1 " + b"2" * 100_000, "Separator is not found"),
        ("redis", b"-LOADING dataset\r\n", "it does not speak Redis"),
        ("postgres", b"H", "it does not speak PostgreSQL"),
        ("https", b"no TLS at all, and of no use to who expects a handshake", ""),
    ],
)
async def test_one_that_answers_otherwise_is_not(scheme: str, answer: bytes, why: str) -> None:
    async with answering(answer) as (port, _heard):
        watched = await probed(f"{scheme}://127.0.0.1:{port}", ("it",))
    assert watched.services["it"].status == "unhealthy"
    (trouble,) = watched.troubles()
    assert trouble.startswith("the service it is down: ")
    assert why in trouble
    assert watched.missing() == ["the service it is down"], "without what the error says"


async def test_nothing_there_is_said() -> None:
    with reserved_port() as port:
        watched = await probed(f"tcp://127.0.0.1:{port}")
    assert watched.troubles() == [f"the service it is down: Connect call failed ('127.0.0.1', {port})"]
    assert watched.missing() == [], "it is not required"


async def test_one_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ANSWER_SECONDS", 0.05)
    async with answering(None) as (port, _heard):
        watched = await probed(f"redis://127.0.0.1:{port}")
    assert watched.troubles() == ["the service it is down: no answer within 0 s"]


async def test_one_that_comes_back_is_no_trouble_any_more() -> None:
    with reserved_port() as port:
        watched = await probed(f"tcp://127.0.0.1:{port}")
    assert watched.troubles()
    async with answering(b"") as (port, _heard):
        watched._urls = Probes({"it": f"tcp://127.0.0.1:{port}"})._urls
        await watched.probe()
    assert watched.troubles() == []


async def test_health_names_what_is_down_and_is_unready_where_it_is_required() -> None:
    with reserved_port() as port:
        services = {"cache": f"redis://127.0.0.1:{port}"}
        wanted, needed = Probes(services), Probes(services, ["cache"])
    for watched, ready, causes in ((wanted, True, []), (needed, False, ["the service cache is not known yet"])):
        health = HealthWatch(empty_view(), probes=watched)
        assert (health.check(None).ready, health.missing()) == (ready, causes), "before the first probe"
        await watched.probe()
        said = await detailed_services(health, Principal("reader"))
        assert (said.status, said.ready, said.services["cache"].status) == ("degraded", ready, "unhealthy")
        assert said.causes[0].startswith("the service cache is down: ")
        assert health.missing() == ([] if ready else ["the service cache is down"])


@pytest.mark.parametrize(
    ("services", "why"),
    [
        ({"db": "mysql://db"}, "is no URL of a service"),
        ({"db": "postgres://user:pass@db"}, "has a user or password in it"),
        ({"db": "tcp://db"}, "names no host, or no port"),
        ({"db": "http://"}, "names no host, or no port"),
        ({"hub": "http://hub"}, "are taken"),
        ({"executor-0": "http://hub"}, "are taken"),
    ],
)
def test_services_that_cannot_be_are_refused(services: dict[str, str], why: str, tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text("[services]\n" + "".join(f'{name} = "{url}"\n' for name, url in services.items()))
    with pytest.raises(SettingsError, match=why) as caught:
        load_settings(config)
    assert "pass@" not in str(caught.value)


def test_what_is_required_is_watched() -> None:
    with pytest.raises(ValueError, match="there is no service 'cache' in services"):
        GivenSettings(required_services="cache")


def test_over_http(tmp_path: Path) -> None:
    with reserved_port() as port:
        url = f"tcp://127.0.0.1:{port}"
        env = {"TRUNKLINE_SERVICES": f'{{"database": "{url}"}}', "TRUNKLINE_REQUIRED_SERVICES": "database"}
        with RunningHub(env=env) as hub:

            def found() -> dict[str, Any] | None:
                said: dict[str, Any] = hub.get("/health/detailed").json()
                return said if said["services"]["database"]["status"] == "unhealthy" else None

            eventually(lambda: found() is not None, "the probe has found nothing there", START)
            eventually(
                lambda: hub.get("/ready").json()["causes"] == ["the service database is down"], "not ready", START
            )
            assert hub.get("/ready").status == 503
            assert hub.get("/health").status == 200


async def test_the_health_of_one_service_has_a_page_of_its_own(tmp_path: Path) -> None:
    with reserved_port() as port:
        services = {"brain": f"tcp://127.0.0.1:{port}"}
    listener = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    async with MockHub(services=services, token="secret", data=tmp_path) as mock:
        base = mock.url.replace("ws://", "http://").removesuffix("/ws")

        def asked(name: str, token: str = "secret") -> tuple[int, Any]:
            request = urllib.request.Request(f"{base}/health/{name}", headers={"Authorization": f"Bearer {token}"})
            try:
                with urllib.request.urlopen(request) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                body = error.read()
                return error.code, json.loads(body) if body.startswith(b"{") else None

        status, told = await asyncio.to_thread(asked, "brain")
        assert (status, told["status"], told["latencyMs"]) == (503, "starting", None), "not probed yet"
        probes = mock._running().parts.health.probes
        await probes.probe()
        status, told = await asyncio.to_thread(asked, "brain")
        assert (status, told["service"], told["status"]) == (200, "brain", "healthy")
        assert told["latencyMs"] >= 0
        assert told["timestamp"]
        listener.close()
        await listener.wait_closed()
        await probes.probe()
        status, told = await asyncio.to_thread(asked, "brain")
        assert (status, told["status"], told["latencyMs"]) == (503, "unhealthy", None)
        assert (await asyncio.to_thread(asked, "heart"))[0] == 404
        assert (await asyncio.to_thread(asked, "detailed"))[1]["services"]["brain"]["status"] == "unhealthy"
        assert (await asyncio.to_thread(asked, "brain", "wrong"))[0] == 401
    async with MockHub(data=tmp_path) as mock:
        base = mock.url.replace("ws://", "http://").removesuffix("/ws")
        assert (await asyncio.to_thread(asked, "brain"))[0] == 404, "nothing is configured"
