"""HTTP as a client without any library of ours: whole answers, and server-sent events as they come."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.hub import HttpAnswer, RunningHub
from tests.support.timing import PATIENCE

JSON = {"Content-Type": "application/json"}
EVENTS = JSON | {"Accept": "text/event-stream"}


def request(method: str, **members: Any) -> dict[str, Any]:
    """A JSON-RPC request with the id 1."""
    return {"jsonrpc": "2.0", "id": 1, "method": method} | members


def send(
    hub: RunningHub, path: str, body: Any = b"", headers: Mapping[str, str] = JSON, method: str = "POST"
) -> HttpAnswer:
    """One request on a connection of its own. Bytes go as they are, anything else as JSON."""
    with connected(hub) as connection:
        return ask(connection, path, body, headers, method)


@contextmanager
def connected(hub: RunningHub) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: Any = b"",
    headers: Mapping[str, str] = JSON,
    method: str = "POST",
) -> HttpAnswer:
    connection.request(method, path, encoded(body), dict(headers))
    answer = connection.getresponse()
    return HttpAnswer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def rpc(hub: RunningHub, message: Any, headers: Mapping[str, str] = JSON) -> HttpAnswer:
    return send(hub, "/rpc", message, headers)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    name: str
    data: Any


class EventStream:
    """An answer of server-sent events."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = {k.lower(): v for k, v in answer.getheaders()}
        self._answer = answer

    def __iter__(self) -> Iterator[ServerEvent]:
        name, data = "message", ""
        while line := self._answer.readline().decode():
            line = line.rstrip("\n")
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data += line.removeprefix("data: ")
            elif not line and data:
                yield ServerEvent(name, json.loads(data))
                name, data = "message", ""

    def heartbeat(self) -> None:
        """Wait for the next comment, before any event."""
        while not (line := self._answer.readline().decode()).startswith(":"):
            assert line == "\n", f"{line!r} came"

    def body(self) -> Any:
        """Where it is no stream after all."""
        return json.loads(self._answer.read())


@contextmanager
def events(
    hub: RunningHub, path: str, body: Any, headers: Mapping[str, str] = EVENTS, *, receive_buffer: int | None = None
) -> Iterator[EventStream]:
    """Ask for a stream; it is cut when the block ends.

    Args:
        receive_buffer: of the socket, in bytes: a small one makes the hub feel soon that nobody reads.
    """
    with connected(hub) as connection:
        if receive_buffer is not None:
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.settimeout(PATIENCE)
            raw.connect(("127.0.0.1", hub.port))
            connection.sock = raw
        connection.request("POST", path, encoded(body), dict(headers))
        yield EventStream(connection.getresponse())
