"""``trunkline stdio --connect``: connects the peer at standard input and output with a hub that runs elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from trunkline.background import start_task
from trunkline.client.connection_state import CloseInfo
from trunkline.client.conversation import Conversation
from trunkline.client.link import KEEPALIVE_SECONDS, ClientSession, Connector, Link, Opened
from trunkline.client.reconnecting import Reconnector
from trunkline.client.retrying import Reconnect
from trunkline.edge.framed.dialects import Speech, make_dialect
from trunkline.edge.framed.stdio import StandardIo
from trunkline.relay.relay import Relay
from trunkline.relay.relayed_peer import RelayedPeer
from trunkline.version import __version__
from trunkline_protocol.framing import framing

MAX_MESSAGE_BYTES: Final = 16 * 2**20
MAX_QUEUED: Final = 16_384
MAX_QUEUED_BYTES: Final = 16 * 2**20
"""Bytes that may wait while there is no connection; what exceeds that, or :data:`MAX_QUEUED`, is refused at once."""

UNSENT_BYTES: Final = 1024 * 1024
"""After so many bytes the peer is not read until the hub has taken them."""

OPEN_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _PacedConnector(Connector):
    """Opens connections that are read only while the peer reads what they bring."""

    room: asyncio.Event

    @override
    async def open(self, resuming: ClientSession | None) -> Opened:
        opened = await Connector.open(self, resuming)
        return Opened(_PacedLink(opened.link, self.room), opened.session, opened.resuming)


class _PacedLink(Link):
    def __init__(self, link: Link, room: asyncio.Event) -> None:
        super().__init__(link._socket)
        self._room = room

    @override
    async def receive(self) -> bytes:
        await self._room.wait()
        return await super().receive()


class RelayProgram:
    """One run of the relay, from the first connection to the end of the peer.

    Args:
        token: a bearer token; None where the hub needs none.
    """

    def __init__(self, url: str, token: str | None, speech: Speech) -> None:
        self._room = asyncio.Event()
        self._room.set()
        self._over = asyncio.Event()
        self._unsent = 0
        self._sending: asyncio.Task[None] | None = None
        self._conversation = Conversation(MAX_QUEUED, MAX_QUEUED_BYTES)
        dialect = make_dialect(speech.dialect, MAX_MESSAGE_BYTES, __version__)
        self.peer = RelayedPeer(
            framing(speech.framing, MAX_MESSAGE_BYTES), dialect, to_hub=self._to_hub, room=self._has_room,
            over=self._over.set,
        )  # fmt: skip
        self._relay = Relay(self._conversation, self.peer.send, self._hub_gone)
        connector = _PacedConnector(url, token, OPEN_SECONDS, True, KEEPALIVE_SECONDS, self._room)
        closed: asyncio.Future[CloseInfo] = asyncio.get_running_loop().create_future()
        self._reconnector = Reconnector(connector, self._conversation, Reconnect(), self._relay, random.random, closed)
        self.hub_gone: str | None = None

    async def run(self, standard_io: StandardIo) -> None:
        """Carry messages until the peer sends nothing more, the hub refuses, or SIGTERM comes.

        Raises:
            ConnectError: the first connection failed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._over.set)
        await self._reconnector.start(0.0)
        await standard_io.connect(self.peer)
        self.peer.greet()
        await self._over.wait()
        await self._drain()
        await self._reconnector.close()
        self.peer.close(1000, "")
        await standard_io.finish(DRAIN_SECONDS)

    async def _drain(self) -> None:
        """Wait, at most :data:`DRAIN_SECONDS`, until all calls of the peer have their response."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._relay.is_idle and self.peer.ended is None and self.hub_gone is None:
                    await asyncio.sleep(0.02)

    def _hub_gone(self, words: str) -> None:
        if not self._over.is_set():
            self.hub_gone = words
        self._over.set()

    def _has_room(self, has_room: bool) -> None:
        if has_room:
            self._room.set()
        else:
            self._room.clear()

    def _to_hub(self, message: bytes) -> None:
        self._relay.receive(message)
        self._unsent += len(message)
        if self._unsent > UNSENT_BYTES and self._sending is None and self._conversation.is_connected:
            self.peer.hold_back("the hub does not take more")
            self._sending = start_task(self._until_sent(), "relay")

    async def _until_sent(self) -> None:
        await self._conversation.emptied()
        self._unsent, self._sending = 0, None
        self.peer.go_on("the hub does not take more")
