"""Watches the services that a setting names: asks each, in the background, whether it answers, within some seconds.

No request waits for that: reports have what the last probe found. A probe logs in nowhere, follows no redirect, and
reads a line.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from trunkline.background import keep_up
from trunkline.settings.probed_services import SERVICE_PORTS
from trunkline_protocol.health_reports import ServiceHealth

PROBE_SECONDS: Final = 10.0
"""Between two probes of a service."""

ANSWER_SECONDS: Final = 3.0
"""Within which a service has to answer."""

MAX_LINE: Final = 4096
_POSTGRES_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""It is answered with one byte, S or N, before anybody logs in."""


class Probes:
    """What the services that a setting names answer.

    Args:
        services: URLs by name.
        required: names of those without which the hub is not ready.
    """

    def __init__(self, services: Mapping[str, str], required: Collection[str] = ()) -> None:
        self._urls = {name: urlsplit(url) for name, url in services.items()}
        self._required = required
        self._found = dict.fromkeys(services, ServiceHealth("starting", None))
        self._why: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask, if there is anything to ask."""
        if self._urls:
            self._task = keep_up(self._probe_forever, "service-probes")

    def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    @property
    def services(self) -> dict[str, ServiceHealth]:
        """The status of each service, ``starting`` before its first probe, and how long its answer took."""
        return dict(self._found)

    def troubles(self) -> list[str]:
        """The services that do not answer, and why, a phrase each."""
        return [f"the service {name} is down: {why}" for name, why in self._why.items()]

    def missing(self) -> list[str]:
        """What is wrong with services that the hub is not ready without, a phrase each."""
        required = {name: self._found[name].status for name in self._required}
        return [
            f"the service {name} is {'down' if status == 'unhealthy' else 'not known yet'}"
            for name, status in required.items()
            if status != "healthy"
        ]

    async def _probe_forever(self) -> None:
        while True:
            await self.probe()
            await asyncio.sleep(PROBE_SECONDS)

    async def probe(self) -> None:
        """Ask all services at once, each for :data:`ANSWER_SECONDS` at most."""
        await asyncio.gather(*map(self._look, self._urls))

    async def _look(self, name: str) -> None:
        began = time.perf_counter()
        why = await _fault_of(self._urls[name])
        if why is None:
            self._why.pop(name, None)
            self._found[name] = ServiceHealth("healthy", round((time.perf_counter() - began) * 1000, 3))
        else:
            self._why[name] = why
            self._found[name] = ServiceHealth("unhealthy", None)


async def _fault_of(url: SplitResult) -> str | None:
    """Why a service does not answer as it should; None where it does."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _ask(url)
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    except (OSError, ValueError) as error:  # ValueError: a line that is too long
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return words or type(error).__name__


async def _ask(url: SplitResult) -> str | None:
    assert url.hostname is not None
    port = url.port or SERVICE_PORTS[url.scheme]
    tls = ssl.create_default_context() if url.scheme == "https" else None
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls, limit=MAX_LINE)
    try:
        if url.scheme.startswith("http"):
            return await _http(url, reader, writer)
        if url.scheme == "redis":
            writer.write(b"PING\r\n")
            line = await reader.readline()
            return None if line.startswith((b"+PONG", b"-NOAUTH")) else _not_one("Redis", line)
        if url.scheme.startswith("postgres"):
            writer.write(_POSTGRES_SSL_REQUEST)
            line = await reader.read(1)
            return None if line in (b"S", b"N") else _not_one("PostgreSQL", line)
        return None  # that it takes connections is all that is known of others
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _http(url: SplitResult, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = url.netloc
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: trunkline\r\nConnection: close\r\n\r\n"
    writer.write(head.encode("ascii"))
    said, _, rest = (await reader.readline()).partition(b" ")
    status = rest[:3]
    if not said.startswith(b"HTTP/") or not status.isdigit():
        return _not_one("HTTP", said)
    return None if status < b"400" else f"it answers with status {status.decode()}"


def _not_one(what: str, said: bytes) -> str:
    return f"it does not speak {what}" if said else "it closed the connection"
