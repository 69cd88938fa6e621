"""The examples of SPEC.md: blocks of messages in both directions, read, and taken with a real hub.

A block's info string is ``exchange``, then the path of the WebSocket (``/ws`` where there is none), and the settings of
a hub of its own (``NAME=value``) or ``fresh``; without any it is the shared hub. Its lines, in order:

- ``--> {...}``: the client sends this; ``<-- {...}``: the next message that comes is this. A name before the arrow
  tells connections apart. A line that begins with a space continues the one before.
- ``--> (connects)``, ``--> (connection lost)``, ``--> (waits 100 ms)``, ``<-- (closes 1002)``.

A message is compared exactly, but for the values of the members in :data:`VARYING`, of which only the type counts. A
value shown there stands for the real one in all that follows. ``"...": 0`` stands for further members. ``session.ack``
goes by unless it is shown: when it comes is a matter of time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
import websockets

from tests.support.hub import RunningHub
from tests.support.match import type_name
from tests.support.peer import Peer, peer
from tests.support.timing import eventually

MORE: Final = "..."
"""The member that stands for further ones."""

NAMED: Final = frozenset({"session", "epoch", "idempotency_epoch", "call", "failure", "connection"})
"""Members whose value a hub makes up, and clients repeat."""

VARYING: Final = NAMED | frozenset(
    {
        "age_ms", "bytes_in", "bytes_out", "calls_per_second", "connections", "cpu_count", "created_at",
        "duration_ms", "error_id", "executor", "expires_in_ms", "finished_at", "kept_bytes", "latency_ms", "max_ms",
        "mean_ms", "memory_total_mb", "memory_usage", "message", "oldest_at", "opened_at", "p50_ms", "p95_ms", "p99_ms",
        "peer", "pid", "platform", "published_at", "python", "queue_ms", "request_count", "requests_per_second",
        "retry_after_ms", "rss_mb", "run_ms", "running_ms", "since", "started_at", "time_ms", "timeout_ms", "timestamp",
        "answered_at", "asked_at", "day", "lines", "trace_id", "updated_at",
        "uptime_seconds", "version", "window_seconds",
    }
)  # fmt: skip
"""Members whose value is another in every run."""

PLACE: Final = ".as_of.offset"
"""Where a number is that a hub makes up, and clients repeat: shown by one that stands nowhere else."""

UNKNOWN_AT_FIRST: Final = "cpu_percent"
"""The member that is null for the first second of a process, and a number then."""

_MADE_UP: Final = re.compile(r'"h:\d+"|\b[0-9a-f]{32}\b')
"""Ids that a hub makes up: of its requests to clients, and of jobs."""

_LINE: Final = re.compile(r"(?:(?P<name>\w+) +)?(?P<arrow>-->|<--) (?P<body>.*)")


@dataclass(frozen=True, slots=True)
class Step:
    """A line of an exchange.

    Attributes:
        name: of the connection; empty where the exchange has one.
        is_sent: whether the client sends it.
        body: the message as it stands, or what happens in parentheses.
    """

    name: str
    is_sent: bool
    body: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """A block of examples.

    Attributes:
        line: where it begins.
        section: the heading above.
        path: of the WebSocket.
        is_alone: whether it needs a hub of its own.
        settings: of that hub.
    """

    line: int
    section: str
    path: str
    is_alone: bool
    settings: dict[str, str]
    steps: tuple[Step, ...]


def exchanges_of(text: str) -> Iterator[Exchange]:
    """The exchanges of a Markdown text."""
    for found in re.finditer(r"^```exchange(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        words = found[1].split()
        before = text[: found.start()]
        section = re.findall(r"^#+ (.*)$", before, re.MULTILINE)[-1]
        path = next((word for word in words if word.startswith("/")), "/ws")
        settings = dict(word.split("=", 1) for word in words if not word.startswith("/") and "=" in word)
        is_alone = bool(settings) or "fresh" in words
        yield Exchange(before.count("\n") + 1, section, path, is_alone, settings, tuple(_steps(found[2])))


def _steps(code: str) -> Iterator[Step]:
    for line in re.sub(r"\n +", " ", code).splitlines():
        found = _LINE.fullmatch(line)
        assert found is not None, f"not a line of an exchange: {line!r}"
        yield Step(found["name"] or "", found["arrow"] == "-->", found["body"])


class Taken:
    """Takes the steps of an exchange with a hub.

    Args:
        hub: where to.
        path: of the WebSocket.
        stack: closes the connections.
    """

    def __init__(self, hub: RunningHub, path: str, stack: AsyncExitStack) -> None:
        self._hub = hub
        self._url = hub.url.removesuffix("/ws") + path
        self._stack = stack
        self._peers: dict[str, Peer] = {}
        self._real: dict[tuple[str, Any], Any] = {}

    async def take(self, step: Step) -> None:
        """Send, or receive and compare.

        Raises:
            AssertionError: something else came.
        """
        if step.body == "(connects)" or step.name not in self._peers:
            self._peers[step.name] = await self._stack.enter_async_context(peer(self._url))
        connection = self._peers[step.name]
        if step.body == "(connects)":
            return
        if step.body == "(connection lost)":
            await self._lose(connection)
        elif found := re.fullmatch(r"\(waits (\d+) ms\)", step.body):
            await asyncio.sleep(int(found[1]) / 1000)
        elif found := re.fullmatch(r"\(closes (\d+)\)", step.body):
            await _require_closed(connection, int(found[1]))
        elif step.is_sent:
            await connection.send(self._filled(step.body))
        else:
            await self._receive(connection, json.loads(self._filled(step.body)))

    async def _lose(self, connection: Peer) -> None:
        """Reset a connection, and wait until the hub knows: what follows depends on it."""
        before = open_connections(self._hub)
        connection.socket.transport.abort()
        await asyncio.to_thread(eventually, lambda: open_connections(self._hub) < before, "the hub noticed the loss")

    def _filled(self, text: str) -> str:
        """A message with the real values of those that were shown before."""
        for (name, shown), real in self._real.items():
            if name:
                text = text.replace(f'"{name}":{json.dumps(shown)}', f'"{name}":{json.dumps(real)}')
            else:
                text = text.replace(shown, real)
        return text

    async def _receive(self, connection: Peer, expected: Any) -> None:
        received = await connection.receive()
        while _is_acknowledgement(received) and not _is_acknowledgement(expected):
            received = await connection.receive()
        self._compare(expected, received, "$")

    def _compare(self, shown: Any, real: Any, path: str) -> None:
        name = path.rpartition(".")[2]
        if name == UNKNOWN_AT_FIRST:
            assert real is None or isinstance(real, float), f"{path}: {real!r} came"
        elif name in VARYING and shown is not None:
            assert type_name(shown) == type_name(real), f"{path}: {shown!r} is shown, {real!r:.500} came"
            if name in NAMED:
                self._real[name, shown] = real
        elif path.endswith(PLACE) and str(shown) not in self._real.values():
            assert type_name(shown) == type_name(real), f"{path}: {shown!r} is shown, {real!r:.500} came"
            self._real["", str(shown)] = str(real)
        elif isinstance(shown, dict) and isinstance(real, dict):
            left_out = set() if MORE not in shown else real.keys() - shown.keys()
            assert shown.keys() - {MORE} == real.keys() - left_out, f"{path}: {real!r:.1000} came"
            for key in shown.keys() - {MORE}:
                self._compare(shown[key], real[key], f"{path}.{key}")
        elif isinstance(shown, list) and isinstance(real, list):
            assert len(shown) == len(real), f"{path}: {real!r:.1000} came"
            for index, (one, other) in enumerate(zip(shown, real, strict=True)):
                self._compare(one, other, f"{path}[{index}]")
        elif shown != real and isinstance(real, str) and (made_up := _MADE_UP.search(json.dumps(shown))):
            other = _MADE_UP.search(json.dumps(real))
            assert other is not None, f"{path}: {shown!r} is shown, {real!r:.500} came"
            self._real["", made_up[0]] = other[0]
        else:
            same = type_name(shown) == type_name(real) and shown == real
            assert same, f"{path}: {shown!r} is shown, {real!r:.500} came"


def open_connections(hub: RunningHub) -> float:
    """What the hub counts."""
    found = re.search(rb"^trunkline_connections ([0-9.]+)$", hub.get("/metrics").body, re.MULTILINE)
    assert found is not None
    return float(found[1])


def _is_acknowledgement(message: Any) -> bool:
    return isinstance(message, dict) and message.get("method") == "session.ack"


async def _require_closed(connection: Peer, code: int) -> None:
    with pytest.raises(websockets.ConnectionClosed):
        raise AssertionError(f"before the end came {await connection.receive()!r:.500}")
    assert connection.socket.close_code == code
