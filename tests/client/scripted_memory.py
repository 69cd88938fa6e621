"""A hub that says what the test tells it to, without a socket: for tests whose time is virtual.

What either side writes has arrived at once, and nothing but waiting takes time.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from typing_extensions import override

from tests.client.scripted import Answer, ScriptedHub, agreeable
from trunkline.client import CloseInfo, Hub, Reconnect, Retry
from trunkline.client.connection_state import ABNORMAL
from trunkline.client.engine import Engine
from trunkline.client.hub import MAX_QUEUED, MAX_QUEUED_BYTES, CallDefaults
from trunkline.client.link import KEEPALIVE_SECONDS, Connector, Link, LinkEnded

RECONNECT: Final = Reconnect()
RETRY: Final = Retry()


class MemoryLink(Link):
    """The client's end of a connection to a :class:`MemoryHub`."""

    def __init__(self, hub: MemoryHub) -> None:
        self._hub = hub
        self._arrived: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._info: CloseInfo | None = None

    def end(self, info: CloseInfo) -> None:
        """Nothing comes any more, once what has arrived is read."""
        self._info = self._info or info
        self._changed.set()

    def arrive(self, messages: Sequence[dict[str, Any]]) -> None:
        """Take messages of the hub."""
        self._arrived += [json.dumps(message).encode() for message in messages]
        self._changed.set()

    @override
    def when_room(self, told: Callable[[], None]) -> None:
        """There is always room."""

    @property
    @override
    def is_open(self) -> bool:
        return self._info is None

    @property
    @override
    def is_full(self) -> bool:
        return False

    @override
    def write(self, frames: Sequence[bytes]) -> None:
        for frame in frames if self.is_open else ():
            self._hub.take(self, json.loads(frame))

    @override
    async def receive(self) -> bytes:
        while not self._arrived:
            if self._info is not None:
                raise LinkEnded(self._info)
            self._changed.clear()
            await self._changed.wait()
        return self._arrived.popleft()

    @override
    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.end(CloseInfo(code, reason))

    @override
    def abort(self) -> None:
        self.end(CloseInfo(ABNORMAL, "aborted"))


class MemoryHub(ScriptedHub):
    """A scripted hub to which connections are made in memory.

    Attributes:
        is_away: whether there is none for now.
    """

    def __init__(self, answer: Answer, *, sessions: bool = False) -> None:
        super().__init__(answer, sessions=sessions)
        self._links: list[MemoryLink] = []
        self._heard = asyncio.Event()
        self.is_away = False

    async def open_link(self, _url: str, _token: str | None, *, keepalive: float) -> Link:
        """Connect, as clients do."""
        if self.is_away:
            raise ConnectionRefusedError("nobody listens")
        self._links.append(MemoryLink(self))
        return self._links[-1]

    def take(self, link: MemoryLink, message: dict[str, Any]) -> None:
        """Take a message of a client, and answer it."""
        link.arrive(self.answers_to(message))
        self._heard.set()

    @override
    async def send(self, *messages: dict[str, Any]) -> None:
        self._links[-1].arrive(messages)

    @override
    async def cut(self) -> None:
        self._links[-1].end(CloseInfo(ABNORMAL, "cut"))

    @override
    async def wait_for(self, method: str, number: int = 1, *, within: float = 60.0) -> dict[str, Any]:
        async with asyncio.timeout(within):
            while len(calls := self.calls(method)) < number:
                self._heard.clear()
                await self._heard.wait()
        return calls[number - 1]


@asynccontextmanager
async def client_in_memory(
    answer: Answer = agreeable,
    *,
    sessions: bool = False,
    reconnect: Reconnect | None = RECONNECT,
    retry: Retry | None = RETRY,
    random: Callable[[], float] = lambda: 0.5,
) -> AsyncIterator[tuple[MemoryHub, Hub]]:
    """A client of a scripted hub, both in memory, for the length of a ``with`` block."""
    hub = MemoryHub(answer, sessions=sessions)
    connector = Connector("memory:", None, 10.0, sessions, KEEPALIVE_SECONDS, open_link=hub.open_link)
    engine = Engine(
        connector,
        reconnect=reconnect,
        retry=retry,
        random=random,
        max_queued=MAX_QUEUED,
        max_queued_bytes=MAX_QUEUED_BYTES,
    )
    await engine.reconnector.start(0.0)
    client = Hub(engine, CallDefaults())
    try:
        yield hub, client
    finally:
        await client.close()
