"""Published events, and positions in a topic (SPEC.md, Publish and subscribe)."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_protocol.codecs.jsonrpc import encode_event


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a topic: behind its event number ``offset`` (0 = before the first) of this ``epoch``."""

    epoch: str
    offset: int


class Event:
    """A published event.

    Attributes:
        data: JSON.
        offset: counts from 1 without gaps inside an epoch.
        published_at: milliseconds since 1970, for people; nothing is decided by it.
        publisher: the name of the principal that published it; on a topic that tenants share its key
            (:mod:`trunkline_protocol.tenants`); empty for the hub's own, and where it is hidden.
        payload: the encoded notification, made once, when the event is first delivered; empty until then.
        frame: the payload as the WebSocket door writes it, made once and shared by all connections.
    """

    __slots__ = ("data", "epoch", "frame", "offset", "payload", "published_at", "publisher", "topic")

    def __init__(
        self, topic: str, data: bytes, epoch: str, offset: int, published_at: int, publisher: str = ""
    ) -> None:
        self.topic = topic
        self.data = data
        self.epoch = epoch
        self.offset = offset
        self.published_at = published_at
        self.publisher = publisher
        self.payload = b""
        self.frame: bytes | None = None

    def encode(self) -> Event:
        """Encode the payload, if that has not been done. Returns the event itself."""
        if not self.payload:
            self.payload = encode_event(
                self.topic, self.data, self.epoch, self.offset, self.published_at, self.publisher
            )
        return self


def is_after(event: Event, topic: str, position: Position) -> bool:
    """Whether an event of this topic comes after the position, in the same epoch."""
    return event.topic == topic and event.epoch == position.epoch and event.offset > position.offset
