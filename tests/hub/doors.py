"""A door, a flusher and a backend that only remember: what is around the hub, in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Connection, Services, Traffic
from trunkline.hub.limits import ConnectionLimits, RateLimiter
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import ANONYMOUS, Principal
from trunkline.hub.router import Router
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.events import Event


class ManualFlusher:
    """A loop whose turn ends when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []

    def schedule(self, flush: Callable[[], None]) -> None:
        self.asked.append(flush)

    def end_of_turn(self) -> None:
        asked, self.asked = self.asked, []
        for flush in asked:
            flush()


class Door:
    """Takes what an outbox writes; ``stuck`` pauses it after each write, as a full transport does."""

    def __init__(self, limit: int = 1000, event_limit: int = 1000) -> None:
        self.flusher = ManualFlusher()
        self.writes: list[list[bytes]] = []
        self.overflows = 0
        self.stuck = False
        self.reading = True
        self.closed_with: tuple[int, str] | None = None
        self.received = 0
        self.outbox = Outbox(self.flusher, self, limit, event_limit)  # type: ignore[arg-type]

    def write(self, messages: list[bytes]) -> None:
        self.writes.append(list(messages))
        if self.stuck:
            self.outbox.pause()

    def write_event(self, event: Event) -> None:
        self.write([event.payload])

    def write_payload(self, payload: bytes) -> None:
        self.write([payload])

    def overflow(self) -> None:
        self.overflows += 1

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def adopt(self, connection: Connection) -> None:
        """Its connection is the test's."""

    def disown(self) -> None:
        """Its connection is the test's."""

    def close(self, code: int, reason: str) -> None:
        self.closed_with = (code, reason)

    def traffic(self) -> Traffic:
        return Traffic("websocket", "a test", self.received, sum(map(len, self.messages)))

    @property
    def messages(self) -> list[bytes]:
        return [message for write in self.writes for message in write]

    def said(self) -> list[Any]:
        """Everything sent so far, decoded."""
        self.flusher.end_of_turn()
        return [json.loads(message) for message in self.messages]


class FakeBackend:
    """Serves ``work.do`` and the stream ``work.stream`` by keeping the calls until the test settles them."""

    def __init__(self) -> None:
        self.infos = {
            "work.do": MethodInfo("work.do"),
            "work.stream": MethodInfo("work.stream", streaming=True),
            "work.fed": MethodInfo("work.fed", input={"type": "integer"}),
            "work.short": MethodInfo("work.short", timeout_ms=50),
            "work.capped": MethodInfo("work.capped", max_timeout_ms=50),
        }
        self.calls: list[Call] = []
        self.cancelled: list[Call] = []
        self.grants: list[int] = []
        self.pushed: list[tuple[int, bytes, bool]] = []

    def find(self, method: str) -> MethodInfo:
        if method not in self.infos:
            raise RpcError(ErrorCode.METHOD_NOT_FOUND, f"no method {method}")
        return self.infos[method]

    def find_for(self, call: Call) -> MethodInfo:
        return self.find(call.method)

    def find_in(self, _tenant: str, method: str) -> MethodInfo:
        return self.find(method)

    def serves(self, _method: str) -> bool:
        return False

    def submit(self, call: Call) -> None:
        self.calls.append(call)
        call.executor = self

    def cancel(self, call: Call) -> None:
        self.cancelled.append(call)

    def grant(self, _call: Call, consumed: int) -> None:
        self.grants.append(consumed)

    def push(self, _call: Call, index: int, data: bytes, final: bool) -> None:
        self.pushed.append((index, data, final))


def services(router: Router, limits: ConnectionLimits | None = None, *, rate: float = 0.0, burst: int = 0) -> Services:
    """What connections share, with nobody who listens."""
    return Services(router, limits or ConnectionLimits(), RateLimiter(rate, burst), lambda _: None, lambda _: None)


def connection(shared: Services, door: Door, principal: Principal = ANONYMOUS) -> Connection:
    """A connection behind a door."""
    return ClientConnection(shared, door.outbox, principal, "test", door)
