"""The fixed dialogue that is counted: calls, a stream, events, a session that is resumed.

It waits for every answer before it goes on, and writes what goes together with one ``send``, so that a hub reads the
same bytes in the same portions each time, however slowly it runs.
"""

from __future__ import annotations

import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

GOING_AWAY: Final = 1001
PATIENCE: Final = 60.0
"""Seconds until an answer has to come; under valgrind all takes fifty times as long."""

VALUE: Final = "x" * 40
WINDOW: Final = 16
CHUNKS: Final = 50
SUBSCRIBERS: Final = 8
BETWEEN_RESUMPTIONS: Final = 10
UNACKNOWLEDGED: Final = 2
"""Replies that are sent again after each resumption."""

IDLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a hub is spoken to.

    Attributes:
        url: ``ws://host:port/path``.
        token: what connections authenticate with; None where that is not asked for.
    """

    url: str
    token: str | None = None


class Talk:
    """A connection of the dialogue: blocking, without compression."""

    def __init__(self, address: Address) -> None:
        uri = parse_uri(address.url)
        self._socket = socket.create_connection((uri.host, uri.port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol = ClientProtocol(uri)
        self._messages: list[dict[str, Any]] = []
        upgrade = self._protocol.connect()
        if address.token is not None:
            upgrade.headers["Authorization"] = f"Bearer {address.token}"
        self._protocol.send_request(upgrade)
        self._flush()
        self._read_events(1)  # the answer to the upgrade

    def send(self, *messages: dict[str, Any]) -> None:
        """Write messages, all of them at once."""
        for message in messages:
            self._protocol.send_text(json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode())
        self._flush()

    def receive(self, count: int = 1) -> list[dict[str, Any]]:
        """Read so many messages, acknowledgements and credit left out: when those come depends on time.

        Raises:
            ConnectionError: the hub closed the connection.
            TimeoutError: nothing came in time.
            RuntimeError: a call was answered with an error.
        """
        while len(self._messages) < count:
            self._read_events(0)
        taken, self._messages = self._messages[:count], self._messages[count:]
        return taken

    def call(self, number: int, method: str, params: dict[str, Any], **rest: Any) -> dict[str, Any]:
        """Make a call and return its result; nothing else may be under way."""
        self.send({"id": number, "method": method, "params": params, **rest})
        result: dict[str, Any] = self.receive()[0]["result"]
        return result

    def leave(self) -> None:
        """Close the connection; the hub knows that it is gone when this returns."""
        self._protocol.send_close(GOING_AWAY)
        self._flush()
        while self._socket.recv(1 << 18):
            pass
        self._socket.close()

    def drop(self) -> None:
        """Drop the connection without a word."""
        self._socket.close()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self._socket.sendall(data)

    def _read_events(self, least: int) -> None:
        seen = 0
        while True:
            data = self._socket.recv(1 << 18)
            if not data:
                raise ConnectionError("the hub closed a connection of the dialogue")
            self._protocol.receive_data(data)
            self._flush()
            for event in self._protocol.events_received():
                seen += 1
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._take(json.loads(bytes(event.data)))
            if seen >= least:
                return

    def _take(self, message: dict[str, Any]) -> None:
        if "error" in message:
            raise RuntimeError(f"the hub answered {message}")
        if message.get("method") not in ("session.ack", "stream.credit"):
            self._messages.append(message)


class Part(ABC):
    """A part of the dialogue, which goes in rounds that are all alike.

    Attributes:
        name: what stands in the table.
        unit: what its instructions are divided by.
        units: how many of these one round has.
        rounds: how many are counted.
        warm_up: how many come before.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    units: ClassVar[int] = 1
    rounds: ClassVar[int]
    warm_up: ClassVar[int]

    def __init__(self, address: Address) -> None:
        self.address = address
        self.number = 0

    def next_number(self) -> int:
        """Return an id that this part has not used."""
        self.number += 1
        return self.number

    @abstractmethod
    def round(self) -> None:
        """Go through it once."""

    @abstractmethod
    def close(self) -> None:
        """Drop its connections."""


class Nothing(Part):
    """No message at all: what time alone costs, which is taken off from the other parts."""

    name = "idle"
    unit = "second"
    rounds = 5
    warm_up = 1

    def round(self) -> None:
        time.sleep(IDLE_SECONDS)

    def close(self) -> None:
        pass


class OneConnection(Part):
    """A part that needs one connection."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.talk = Talk(address)

    def close(self) -> None:
        self.talk.drop()


class Calls(OneConnection):
    """Calls of an executor, the next when the last was answered."""

    name = "calls, window 1"
    unit = "call"
    rounds = 1500
    warm_up = 150

    def round(self) -> None:
        self.talk.call(self.next_number(), "counted.echo", {"value": VALUE})


class Windows(OneConnection):
    """Calls of an executor, so many at once, the next ones when all were answered."""

    name = f"calls, window {WINDOW}"
    unit = "call"
    units = WINDOW
    rounds = 120
    warm_up = 12

    def round(self) -> None:
        self.talk.send(
            *(
                {"id": self.next_number(), "method": "counted.echo", "params": {"value": VALUE}}
                for _ in range(WINDOW)
            )
        )  # fmt: skip
        self.talk.receive(WINDOW)


class Streams(OneConnection):
    """Streams that answer each item that is pushed with a chunk, the next when that has come, with credit."""

    name = "stream, both ways"
    unit = "item and chunk"
    units = CHUNKS
    rounds = 16
    warm_up = 2

    def round(self) -> None:
        number = self.next_number()
        self.talk.send({"id": number, "method": "counted.echo_each", "metadata": {"window": {"items": 4}}})
        for index in range(CHUNKS):
            item = {"request_id": number, "index": index, "data": VALUE}
            self.talk.send({"method": "stream.push", "params": item})
            (chunk,) = self.talk.receive()
            assert chunk["params"]["data"] == VALUE, chunk
            self.talk.send({"method": "stream.credit", "params": {"request_id": number, "consumed": index + 1}})
        self.talk.send({"method": "stream.push", "params": {"request_id": number, "index": CHUNKS, "is_final": True}})
        last, reply = self.talk.receive(2)
        assert last["params"]["is_final"], last
        assert reply["id"] == number, reply


class Events(OneConnection):
    """One publishes, some others read it."""

    name = f"events to {SUBSCRIBERS}"
    unit = "delivery"
    units = SUBSCRIBERS
    rounds = 500
    warm_up = 50

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.readers = [Talk(address) for _ in range(SUBSCRIBERS)]
        for reader in self.readers:
            reader.call(self.next_number(), "subscribe", {"topic": "counted.events"})

    def round(self) -> None:
        self.talk.call(self.next_number(), "publish", {"topic": "counted.events", "data": {"value": VALUE}})
        for reader in self.readers:
            reader.receive()

    def close(self) -> None:
        super().close()
        for reader in self.readers:
            reader.drop()


class Sessions(OneConnection):
    """Calls within a session that is left, resumed and acknowledged again and again."""

    name = f"session, resumed every {BETWEEN_RESUMPTIONS} calls"
    unit = "call"
    units = BETWEEN_RESUMPTIONS
    rounds = 50
    warm_up = 5

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.session = self.talk.call(0, "session.open", {})["session"]
        self.received = 0

    def round(self) -> None:
        for _ in range(BETWEEN_RESUMPTIONS):
            number = self.next_number()
            self.talk.call(number, "counted.echo", {"value": VALUE}, seq=number)
        self.received = self.number - UNACKNOWLEDGED
        self.talk.send({"method": "session.ack", "params": {"received": self.received}})
        self.talk.leave()
        self.talk = Talk(self.address)
        resume = {"session": self.session, "received": self.received}
        opened = self.talk.call(0, "session.open", {"resume": resume})
        assert opened["resumed"], opened
        self.talk.receive(UNACKNOWLEDGED)


IDLE: Final[type[Part]] = Nothing
PARTS: Final[Sequence[type[Part]]] = (Calls, Windows, Streams, Events, Sessions)
