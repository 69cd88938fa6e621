"""A Phoenix client of a hub in memory: the real dialect, door, outbox and connection, and no socket."""

from __future__ import annotations

import json
from typing import Any

from tests.hub.doors import FakeBackend, ManualFlusher
from tests.hub.pubsub import PubSub
from trunkline.edge.intake import Intake
from trunkline.edge.translation import TranslatingDoor
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Connection, Traffic
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import ANONYMOUS, Principal
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.phoenix_events import EventCache
from trunkline_protocol.codecs.phoenix_memory import ClientMemory
from trunkline_protocol.codecs.phoenix_names import ChannelNames
from trunkline_protocol.codecs.phoenix_v2 import PhoenixDialect
from trunkline_protocol.errors import ErrorCode

UNMATCHED = {"reason": "unmatched topic"}


class Socket:
    """Keeps the frames."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.reading = True
        self.closed_with: tuple[int, str] | None = None

    def send_frames(self, frames: list[Frame]) -> None:
        self.frames += frames

    def close(self, code: int, reason: str) -> None:
        self.closed_with = (code, reason)

    def traffic(self) -> Traffic:
        return Traffic("phoenix")

    def adopt(self, connection: Connection) -> None:
        raise AssertionError("channels have no session")

    def disown(self) -> None:
        raise AssertionError("channels have no session")

    def overflow(self) -> None:
        raise AssertionError("overflow")

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class PhoenixPeer:
    """One socket of a client that speaks Phoenix.

    Args:
        hub: what it is connected to.
        events: what its hub's sockets share.
    """

    def __init__(
        self,
        hub: PubSub,
        principal: Principal = ANONYMOUS,
        *,
        max_channels: int = 8,
        names: tuple[str, ...] = (),
        memory: ClientMemory | None = None,
        takes_binary: bool = True,
        events: EventCache | None = None,
        event_limit: int = 10**6,
    ) -> None:
        self.socket = Socket()
        self.dialect = PhoenixDialect(
            events or EventCache(), max_channels, ChannelNames(names), memory, takes_binary=takes_binary
        )
        self.flusher = ManualFlusher()
        self.door = TranslatingDoor(self.socket, self.dialect)
        self.outbox = Outbox(self.flusher, self.door, 10**6, event_limit)  # type: ignore[arg-type]
        self.connection = ClientConnection(hub.services, self.outbox, principal, "test", self.door)
        self.intake = Intake(self.connection, 2**14, lambda: None)
        assert isinstance(hub.router.backend, FakeBackend)
        self.backend = hub.router.backend
        self._read = 0

    def send(self, *message: Any) -> None:
        """Send ``join_ref, ref, topic, event, payload``."""
        self.send_raw(json.dumps(message).encode())

    def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        self.door.receive(Frame(data, binary), self.intake)

    def news(self) -> list[Any]:
        """What came since the last time: text messages as lists, binary ones as bytes."""
        self.flusher.end_of_turn()
        fresh = self.socket.frames[self._read :]
        self._read = len(self.socket.frames)
        return [frame.payload if frame.binary else json.loads(frame.payload) for frame in fresh]

    def one(self) -> Any:
        """The one message that came since the last time."""
        news = self.news()
        assert len(news) == 1, news
        return news[0]

    def ask(self, *message: Any) -> Any:
        """Send a message; the status and the response of its reply, which is all that comes."""
        self.send(*message)
        join_ref, ref, topic, event, payload = self.one()
        assert [ref, topic, event] == [message[1], message[2], "phx_reply"], (join_ref, message)
        return payload["status"], payload["response"]

    def join(self, topic: str, ref: str = "1", payload: Any = None) -> Any:
        """Join; the response."""
        status, response = self.ask(ref, ref, topic, "phx_join", {} if payload is None else payload)
        assert status == "ok", response
        return response

    def refused(self, *message: Any, code: int = ErrorCode.INVALID_REQUEST) -> Any:
        """Send a message that has to be refused; the error object."""
        status, error = self.ask(*message)
        assert (status, error["code"]) == ("error", code), error
        return error

    def events(self) -> list[tuple[str, int]]:
        """Channel and offset of the events that came."""
        return [(topic, payload["offset"]) for _, _, topic, event, payload in self.news() if event == "event"]


def reply(join_ref: Any, ref: Any, topic: str, response: Any, status: str = "ok") -> list[Any]:
    """What a reply looks like."""
    return [join_ref, ref, topic, "phx_reply", {"status": status, "response": response}]


def binary_push(join_ref: str, ref: str, topic: str, event: str, data: bytes) -> bytes:
    """A binary frame, as phoenix.js writes it."""
    fields = [field.encode() for field in (join_ref, ref, topic, event)]
    return bytes([0, *map(len, fields)]) + b"".join(fields) + data


def binary_reply(join_ref: str, ref: str, topic: str, status: str, data: bytes) -> bytes:
    """A binary frame, as phoenix.js reads it."""
    fields = [field.encode() for field in (join_ref, ref, topic, status)]
    return bytes([1, *map(len, fields)]) + b"".join(fields) + data


def binary_broadcast(topic: str, event: str, data: bytes) -> bytes:
    """A binary frame, as phoenix.js reads it."""
    fields = [field.encode() for field in (topic, event)]
    return bytes([2, *map(len, fields)]) + b"".join(fields) + data
