"""Events for Phoenix channels: made once for all sockets, and handed to the channels of one socket.

The hub sends an event once a connection, however many of its subscriptions reach it. Here every channel that it
concerns gets it, once: replies overtake events, and what one channel recovers the hub replays for the whole connection.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.phoenix_frames import encode_broadcast, encode_broadcast_of
from trunkline_protocol.topics import TopicIndex, is_wildcard

EVENT: Final = "event"
GAP: Final = "event.gap"

CACHE_BYTES: Final = 4 * 1024 * 1024
"""Of events that sockets may still have to write; the last one is kept, however large."""

MAX_SHARED: Final = 4
"""Frames of one event that are kept: those of the topic itself, and of the patterns most used."""

MAX_SEEN: Final = 4096
"""Of how many topics a socket remembers how far its patterns have seen them; least recently active go first."""


Form = Literal["event", "own", "own text"]
"""What an event becomes: ``event`` with its params; what was pushed, in a binary frame where it fits; that as text."""

RESERVED: Final = frozenset({EVENT, GAP, "access_token"})
"""The hub's own events, and that by which realtime-js renews its token: it is a secret, which nobody else may read."""


def is_reserved(event: str) -> bool:
    """Whether an event means something on every channel, so that none of that name is published, or taken for one."""
    return event in RESERVED or event.startswith("phx_")


class _EventMessage(msgspec.Struct):
    params: msgspec.Raw


class _Pushed(msgspec.Struct, forbid_unknown_fields=True):
    """The data of an event that was pushed on a channel of an own name."""

    event: str
    payload: msgspec.Raw


class _Data(msgspec.Struct):
    data: _Pushed


class _Head(msgspec.Struct):
    """The params of an event or a gap that tell where it belongs."""

    topic: str
    epoch: str
    offset: int = 0
    to: int = 0
    reason: str = ""


_message_decoder: Final = msgspec.json.Decoder(_EventMessage)
_head_decoder: Final = msgspec.json.Decoder(_Head)
_data_decoder: Final = msgspec.json.Decoder(_Data)


class Published:
    """An event, or a gap, and the frames it becomes, the same for every socket.

    Args:
        event: ``event`` or ``event.gap``.
        params: those of the hub's notification.

    Attributes:
        last: the highest offset it accounts for.
        concerns_asker: a gap that is for the subscription that asked to recover the topic.
    """

    __slots__ = ("_event", "_frames", "_params", "concerns_asker", "epoch", "last", "topic")

    def __init__(self, event: str, params: bytes) -> None:
        head = _head_decoder.decode(params)
        self.topic = head.topic
        self.epoch = head.epoch
        self.last = head.to if event == GAP else head.offset
        self.concerns_asker = event == GAP and head.reason != "slow_consumer"
        self._event = event
        self._params = params
        self._frames: dict[tuple[str, Form], Frame] = {}

    def frame(self, channel: str, form: Form = "event") -> Frame:
        """The frame for a channel, which is named by its topic."""
        key = channel, form
        frame = self._frames.get(key)
        if frame is None:
            frame = self._encode(channel, form)
            if len(self._frames) < MAX_SHARED:
                self._frames[key] = frame
        return frame

    def _encode(self, channel: str, form: Form) -> Frame:
        pushed = None if form == "event" or self._event == GAP else _pushed(self._params)
        if pushed is None:
            return encode_broadcast(channel, self._event, self._params)
        encode = encode_broadcast if form == "own text" else encode_broadcast_of
        return encode(channel, pushed.event, bytes(pushed.payload))


def _pushed(params: bytes) -> _Pushed | None:
    """What was pushed, or published in its form; None for other data, and for events of reserved names."""
    try:
        pushed = _data_decoder.decode(params).data
    except msgspec.DecodeError:
        return None
    return None if is_reserved(pushed.event) else pushed


class EventCache:
    """The events that were translated last. One for all sockets: they get the same bytes, one after the other."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._known: dict[bytes, Published] = {}
        self._bytes = 0

    def get(self, message: bytes) -> Published:
        """The translation of an ``event`` notification, made if that was not done."""
        known = self._known.get(message)
        if known is None:
            known = Published(EVENT, bytes(_message_decoder.decode(message).params))
            self._bytes += len(message)
            while self._known and self._bytes > self._limit:
                oldest = next(iter(self._known))
                del self._known[oldest]
                self._bytes -= len(oldest)
            self._known[message] = known
        return known


class Reader:
    """A channel that reads events.

    Args:
        channel: the channel's topic.
        pattern: of the hub's topics.
        asks: it wants to recover the topic.
        form: what events become for it.
    """

    __slots__ = (
        "_asks", "_confirmed", "_epoch", "_marked", "_missed", "_offset", "channel", "form", "is_pattern", "pattern",
    )  # fmt: skip

    def __init__(self, channel: str, pattern: str, *, asks: bool = False, form: Form = "event") -> None:
        self.channel = channel
        self.form: Form = form
        self.pattern = pattern
        self.is_pattern = is_wildcard(pattern)
        self._asks = asks
        self._epoch: str | None = None
        self._offset = 0
        self._missed: int | None = None
        self._confirmed: tuple[str | None, int] = (None, 0)
        self._marked: tuple[str | None, int] | None = None

    def start(self, epoch: str | None, offset: int, *, recovered: bool = False, before: Reader | None = None) -> None:
        """Begin delivery after this position (patterns have none). What was asked for and not recovered is a gap.

        Args:
            before: after which this one asked to go on; what that one had confirmed is all that this one has.
        """
        self._confirmed = (epoch, offset) if before is None else before._confirmed
        self._epoch = epoch
        self._offset = offset
        self._missed = offset if self._asks and not recovered else None

    def asked(self, gap: Published) -> bool:
        """Whether a gap stands for what this channel wanted to recover, not for what an earlier one wanted."""
        return gap.epoch == self._epoch and gap.last == self._missed

    def mark(self) -> None:
        """Remember the position of what was delivered, for the next :meth:`confirm`."""
        self._marked = (self._epoch, self._offset)

    def confirm(self) -> None:
        """The peer has what was delivered until the last :meth:`mark`."""
        if self._marked is not None:
            self._confirmed = self._marked

    @property
    def is_recoverable(self) -> bool:
        """Whether there is a position to go on after: there is none of a pattern, and without a history."""
        return self._confirmed[0] is not None and not self.is_pattern

    @property
    def unconfirmed(self) -> int:
        """How many events were delivered after what the peer is known to have."""
        epoch, offset = self._confirmed
        return self._offset - offset if epoch == self._epoch else 0

    def confirmed_position(self) -> bytes:
        """The position of what the peer is known to have, as JSON."""
        epoch, offset = self._confirmed
        return msgspec.json.encode({"epoch": epoch, "offset": offset})

    def takes(self, published: Published) -> bool:
        """Whether an event or gap is new to this channel; marks it as delivered."""
        if published.epoch == self._epoch and published.last <= self._offset:
            return False
        self._epoch, self._offset = published.epoch, published.last
        return True


class Readers:
    """The channels of one socket that read events."""

    def __init__(self) -> None:
        self._index: TopicIndex[Reader] = TopicIndex()
        self._exact: dict[str, Reader] = {}
        self._patterns = 0
        self._seen: dict[str, tuple[str, int]] = {}

    def add(self, reader: Reader) -> None:
        """Deliver events to a reader from now on."""
        self._index.add(reader.pattern, reader)
        if reader.is_pattern:
            self._patterns += 1
        else:
            self._exact[reader.pattern] = reader

    def remove(self, reader: Reader) -> None:
        """Stop delivering events to a reader that was added."""
        self._index.remove(reader.pattern, reader)
        if reader.is_pattern:
            self._patterns -= 1
            if not self._patterns:
                self._seen.clear()
        else:
            del self._exact[reader.pattern]

    def deliver(self, published: Published) -> list[Frame]:
        """The frames for the channels that an event or gap concerns."""
        if published.concerns_asker:
            asker = self._exact.get(published.topic)
            return [] if asker is None or not asker.asked(published) else [published.frame(asker.channel, asker.form)]
        frames = []
        is_new = None
        for reader in self._index.match(published.topic):
            if not reader.is_pattern:
                takes = reader.takes(published)
            elif is_new is None:
                takes = is_new = self._see(published)
            else:
                takes = is_new
            if takes:
                frames.append(published.frame(reader.channel, reader.form))
        return frames

    def _see(self, published: Published) -> bool:
        """Whether an event or gap is new to the patterns; marks it as delivered."""
        seen = self._seen.pop(published.topic, None)
        if seen is not None and seen[0] == published.epoch and published.last <= seen[1]:
            self._seen[published.topic] = seen
            return False
        self._seen[published.topic] = (published.epoch, published.last)
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        return True
