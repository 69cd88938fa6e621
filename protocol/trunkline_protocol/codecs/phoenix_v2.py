"""Phoenix Channels V2 on top of the hub's calls, streams and topics (SPEC.md, Phoenix Channels).

``topic:<name>`` is a subscription: its events are events of the channel, a push of ``publish`` publishes its payload.
A channel whose name is configured is one, too, but its events are those that are pushed (``phoenix_names.py``).
``rpc:<anything>`` is for calls: a push calls the method its event names, and the reply is the outcome.

One socket's channels. A channel is stopped at once: what was pushed and not answered is answered with CANCELLED, then
comes its last message, and what the hub still sends for it finds nobody. So every ref is answered once, and nothing
follows the end of a channel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from typing_extensions import override

from trunkline_protocol import hub_methods as hub
from trunkline_protocol.codecs import phoenix_frames as frames
from trunkline_protocol.codecs.dialect import Dialect, Frame, Received
from trunkline_protocol.codecs.phoenix_events import (
    EVENT,
    GAP,
    EventCache,
    Form,
    Published,
    Reader,
    Readers,
    is_reserved,
)
from trunkline_protocol.codecs.phoenix_frames import BadFrame, PhoenixMessage, Ref
from trunkline_protocol.codecs.phoenix_memory import ClientMemory
from trunkline_protocol.codecs.phoenix_names import CONTROL, RPC, TOPIC, ChannelNames
from trunkline_protocol.codecs.phoenix_pushes import (
    Members,
    decode_token,
    encode_notification,
    encode_request,
    members_decoder,
    members_of,
    token_of,
    without_metadata,
)
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error

PUBLISH: Final = hub.PUBLISH.name

UNMATCHED: Final = b'{"reason":"unmatched topic"}'
EMPTY: Final = b"{}"

ANSWERS: Final = frozenset({"phx_reply", "phx_close", "phx_error"})
"""Events that only a server may send."""

STEERING: Final = {name: member for name, member in hub.about_calls("caller").items() if name != hub.CANCELLED.name}
"""Pushes that concern another push of their channel, and the member that has its ref. MCP's cancellation leaves a push
without its reply, which channels promise."""

NOT_OFFERED: Final = frozenset(
    {row.name for row in hub.METHODS.values() if row.needs_connection and not row.before_auth}
    | (hub.NOTIFICATIONS.keys() - STEERING.keys())
)
"""What channels have another way for, or no way at all."""

_EVENT_MESSAGE: Final = b'{"jsonrpc":"2.0","method":"event",'
_RESULT_MESSAGE: Final = re.compile(rb'\{"jsonrpc":"2\.0","id":(\d+),"result":')
"""How nearly all that the hub says begins (``codecs/jsonrpc.py``): what is large in it need not be looked at."""


class _FromHub(msgspec.Struct):
    """A message of the hub, with the members that have to be understood."""

    method: str = ""
    id: int | str | None = None
    params: msgspec.Raw = msgspec.Raw(EMPTY)
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class _Position(msgspec.Struct):
    """The position in the result of ``subscribe``."""

    epoch: str | None
    offset: int
    recovered: bool


_hub_decoder: Final = msgspec.json.Decoder(_FromHub)
_position_decoder: Final = msgspec.json.Decoder(_Position)
_number_decoder: Final = msgspec.json.Decoder(int)
_encoder: Final = msgspec.json.Encoder()


@dataclass(eq=False, slots=True)
class _Channel:
    """One join of a topic.

    Attributes:
        refs: pushes that are not answered, its join among them, and under which id the hub has them.
        reader: of events; None where it is for calls.
        before: that of an earlier socket of the client, after which this one goes on.
    """

    topic: str
    join_ref: Ref
    reader: Reader | None = None
    before: Reader | None = None
    joined: bool = False
    refs: dict[Ref, int] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Pending:
    """A push that the hub has."""

    channel: _Channel
    ref: Ref
    kind: Literal["join", "push", "broadcast"] = "push"
    token: bytes = b""


@dataclass(slots=True)
class _Turn:
    """The messages to hub and peer that one frame leads to."""

    to_hub: list[bytes] = field(default_factory=list)
    to_peer: list[Frame] = field(default_factory=list)

    def received(self) -> Received:
        return Received(tuple(self.to_hub), tuple(self.to_peer))


class PhoenixDialect(Dialect):
    """Translates the channels of one socket.

    Args:
        events: shared by all sockets.
        max_channels: how many may be joined at once.
        names: channels that are topics, beside ``topic:<name>``.
        memory: what was confirmed to earlier sockets of the same client; None where it has no name.
        takes_binary: whether the peer's transport can carry binary frames to it.
    """

    def __init__(
        self,
        events: EventCache,
        max_channels: int,
        names: ChannelNames | None = None,
        memory: ClientMemory | None = None,
        *,
        takes_binary: bool = True,
    ) -> None:
        self._events = events
        self._names = names or ChannelNames()
        self._memory = memory
        self._own_form: Form = "own" if takes_binary else "own text"
        self._encode_result = frames.encode_result if takes_binary else frames.encode_text_result
        self._max_channels = max_channels
        self._channels: dict[str, _Channel] = {}
        self._pending: dict[int, _Pending] = {}
        self._unsubscribing: dict[int, str] = {}
        self._leftovers: dict[str, None] = {}
        self._readers = Readers()
        self._last_id = 0

    # --- from the peer ---

    @override
    def receive(self, frame: Frame) -> Received:
        turn = _Turn()
        try:
            message = frames.decode(frame)
        except BadFrame as bad:
            self._refuse(turn, bad.join_ref, bad.ref, bad.topic, bad.error)
        else:
            self._receive(message, turn)
        return turn.received()

    def _receive(self, message: PhoenixMessage, turn: _Turn) -> None:
        channel = self._channels.get(message.topic)
        if message.event == "phx_join":
            self._join(message, channel, turn)
        elif channel is None:
            self._without_channel(message, turn)
        elif message.join_ref is not None and message.join_ref != channel.join_ref:
            return  # of an earlier join: whoever sent it has been told, or will hear of the later one
        elif message.event == "phx_leave":
            self._leave(channel, message, turn)
        elif message.event in ANSWERS:
            self._crash(channel, message, turn)
        elif message.ref in channel.refs and message.ref is not None:
            self._refuse_duplicate(channel, message, turn)
        elif channel.reader is None:
            self._call(channel, message, turn)
        else:
            self._publish(channel, channel.reader, message, turn)

    def _without_channel(self, message: PhoenixMessage, turn: _Turn) -> None:
        if message.topic == CONTROL and message.event == "heartbeat":
            turn.to_peer.append(frames.encode_reply(None, message.ref, CONTROL, "ok", EMPTY))
            self.confirm()  # a client sends one once it has the reply to the one before, with all that came until then
            self.mark()
            self._retry_leftovers(turn)
        elif message.event == "phx_leave":
            turn.to_peer.append(frames.encode_reply(message.join_ref, message.ref, message.topic, "ok", EMPTY))
        else:
            turn.to_peer.append(frames.encode_reply(None, message.ref, message.topic, "error", UNMATCHED))

    def _refuse(self, turn: _Turn, join_ref: Ref, ref: Ref, topic: str, error: RpcError) -> None:
        channel = self._channels.get(topic)
        if channel is not None and ref in channel.refs:
            ref = None  # its answer would be taken for that of the push that is in flight
        turn.to_peer.append(frames.encode_error(join_ref, ref, topic, error))

    def _refuse_duplicate(self, channel: _Channel, message: PhoenixMessage, turn: _Turn) -> None:
        error = RpcError(
            ErrorCode.INVALID_REQUEST,
            f"ref {message.ref!r} is in flight on {channel.topic}; use another or wait for its reply",
            data={"duplicate_ref": message.ref},
        )
        self._refuse(turn, channel.join_ref, message.ref, channel.topic, error)

    # --- joining and leaving ---

    def _join(self, message: PhoenixMessage, old: _Channel | None, turn: _Turn) -> None:
        topic, join_ref, ref = message.topic, message.join_ref, message.ref
        if join_ref is None or ref is None:
            error = RpcError(ErrorCode.INVALID_REQUEST, "phx_join needs a join_ref and a ref")
            self._refuse(turn, join_ref, ref, topic, error)
            return
        name = topic.removeprefix(TOPIC) if topic.startswith(TOPIC) else self._names.topic_of(topic)
        if name is None and not topic.startswith(RPC):
            turn.to_peer.append(frames.encode_reply(None, ref, topic, "error", UNMATCHED))
            return
        if old is not None and self._stop(old, f"{topic} was joined again", turn):
            turn.to_peer.append(frames.encode_end(old.join_ref, topic, "phx_close"))
        if len(self._channels) >= self._max_channels:
            words = f"{len(self._channels)} channels of this socket are joined; leave some, or join a pattern"
            turn.to_peer.append(
                frames.encode_error(join_ref, ref, topic, limit_error("max_channels", words, retry_after_ms=None))
            )
            return
        if name is not None and (other := self._reader_of(name)) is not None:
            words = f"this socket reads {name} as {other.topic} already; leave that, or join from another socket"
            self._refuse(turn, join_ref, ref, topic, RpcError(ErrorCode.INVALID_REQUEST, words))
            return
        channel = self._channels[topic] = _Channel(topic, join_ref)
        if name is None:
            channel.joined = True
            turn.to_peer.append(frames.encode_reply(join_ref, ref, topic, "ok", EMPTY))
        else:
            self._subscribe(channel, name, message, turn)

    def _reader_of(self, pattern: str) -> _Channel | None:
        """The channel that reads this topic or pattern, or has asked to."""
        for channel in self._channels.values():
            if channel.reader is not None and channel.reader.pattern == pattern:
                return channel
        return None

    def _subscribe(self, channel: _Channel, name: str, message: PhoenixMessage, turn: _Turn) -> None:
        recover = members_of(message.payload).get("recover")
        if recover is None and self._memory is not None:
            channel.before = self._memory.reader_of(name)
            recover = None if channel.before is None else msgspec.Raw(channel.before.confirmed_position())
        form = EVENT if channel.topic.startswith(TOPIC) else self._own_form
        channel.reader = Reader(channel.topic, name, asks=recover is not None, form=form)
        self._leftovers.pop(name, None)
        params: Members = {"topic": msgspec.Raw(_encoder.encode(name))}
        if recover is not None:
            params["recover"] = recover
        self._ask(_Pending(channel, message.ref, "join"), hub.SUBSCRIBE.name, _encoder.encode(params), turn)

    def _leave(self, channel: _Channel, message: PhoenixMessage, turn: _Turn) -> None:
        if self._memory is not None and channel.reader is not None:
            self._memory.forget(channel.reader.pattern)
        was_joined = self._stop(channel, f"{channel.topic} was left", turn)
        turn.to_peer.append(frames.encode_reply(channel.join_ref, message.ref, channel.topic, "ok", EMPTY))
        if was_joined:
            turn.to_peer.append(frames.encode_end(channel.join_ref, channel.topic, "phx_close"))

    def _stop(self, channel: _Channel, why: str, turn: _Turn) -> bool:
        """Stop a channel: answer its pending pushes with CANCELLED, cancel their calls and unsubscribe at the hub.

        Returns:
            Whether the channel was joined, and not only asked to be.
        """
        del self._channels[channel.topic]
        for ref, number in channel.refs.items():
            del self._pending[number]
            turn.to_hub.append(encode_notification(hub.CANCEL_REQUEST.name, b'{"id":%d}' % number))
            error = RpcError(ErrorCode.CANCELLED, f"{why} before the answer came", maybe_executed=True)
            turn.to_peer.append(frames.encode_error(channel.join_ref, ref, channel.topic, error))
        channel.refs.clear()
        if channel.reader is not None:
            if channel.joined:
                self._readers.remove(channel.reader)
            self._unsubscribe(channel.reader.pattern, turn)
        return channel.joined

    def _crash(self, channel: _Channel, message: PhoenixMessage, turn: _Turn) -> None:
        """Stop a channel whose client sent an event that only servers send: it has to join again."""
        reason = f"a client does not send {message.event}; join {channel.topic} again"
        if message.ref is not None:
            error = RpcError(ErrorCode.INVALID_REQUEST, reason)
            self._refuse(turn, channel.join_ref, message.ref, channel.topic, error)
        self._stop(channel, reason, turn)
        turn.to_peer.append(frames.encode_end(channel.join_ref, channel.topic, "phx_error", reason))

    def _unsubscribe(self, name: str, turn: _Turn) -> None:
        self._last_id += 1
        self._unsubscribing[self._last_id] = name
        turn.to_hub.append(encode_request(self._last_id, hub.UNSUBSCRIBE.name, _encoder.encode({"topic": name})))

    def _retry_leftovers(self, turn: _Turn) -> None:
        """Unsubscribe again what the hub refused to unsubscribe (too many calls) and no channel reads."""
        leftovers, self._leftovers = self._leftovers, {}
        for name in leftovers:
            self._unsubscribe(name, turn)

    # --- pushes ---

    def _ask(self, pending: _Pending, method: str, params: bytes, turn: _Turn, metadata: bytes = b"") -> None:
        """Send a request to the hub; its outcome is the answer to the push, if that wants one."""
        if pending.ref is None:
            turn.to_hub.append(encode_notification(method, params, metadata))
            return
        number = self._last_id = self._last_id + 1
        if pending.token:
            metadata = _encoder.encode(members_of(metadata) | {"progress_token": msgspec.Raw(b"%d" % number)})
        self._pending[number] = pending
        pending.channel.refs[pending.ref] = number
        turn.to_hub.append(encode_request(number, method, params, metadata))

    def _publish(self, channel: _Channel, reader: Reader, message: PhoenixMessage, turn: _Turn) -> None:
        if reader.form != EVENT:
            self._broadcast(channel, reader, message, turn)
            return
        if message.event != PUBLISH:
            words = f"{channel.topic} takes publish, not {message.event:.200}; calls are pushed on {RPC} channels"
            self._refuse(
                turn, channel.join_ref, message.ref, channel.topic, RpcError(ErrorCode.METHOD_NOT_FOUND, words)
            )
            return
        params = b'{"topic":%b,"data":%b}' % (frames.encode_value(reader.pattern), message.payload)
        self._ask(_Pending(channel, message.ref), PUBLISH, params, turn)

    def _broadcast(self, channel: _Channel, reader: Reader, message: PhoenixMessage, turn: _Turn) -> None:
        """Publish an event of the peer's own, for whoever has joined."""
        if is_reserved(message.event):
            words = f"{message.event:.200} means something on every channel: push an event of another name"
            self._refuse(turn, channel.join_ref, message.ref, channel.topic, RpcError(ErrorCode.INVALID_REQUEST, words))
            return
        data = b'{"event":%b,"payload":%b}' % (frames.encode_value(message.event), message.payload)
        params = b'{"topic":%b,"data":%b}' % (frames.encode_value(reader.pattern), data)
        self._ask(_Pending(channel, message.ref, "broadcast"), PUBLISH, params, turn)

    def _call(self, channel: _Channel, message: PhoenixMessage, turn: _Turn) -> None:
        member = STEERING.get(message.event)
        if member is not None:
            self._steer(channel, message, member, turn)
        elif message.event in NOT_OFFERED:
            words = f"{message.event} is not offered on Phoenix channels; topics are joined as {TOPIC}<name>"
            self._refuse(
                turn, channel.join_ref, message.ref, channel.topic, RpcError(ErrorCode.METHOD_NOT_FOUND, words)
            )
        else:
            params, metadata = without_metadata(message)
            pending = _Pending(channel, message.ref, token=token_of(metadata))
            self._ask(pending, message.event, params, turn, metadata)

    def _steer(self, channel: _Channel, message: PhoenixMessage, member: str, turn: _Turn) -> None:
        """Hand on what concerns another push, if that is in flight; else it is ignored, as the hub does."""
        members = members_of(message.payload)
        target = decode_token(members.get(member))
        if target is None:
            words = f"{message.event}: the payload's {member} must be the ref of a push"
            self._refuse(turn, channel.join_ref, message.ref, channel.topic, RpcError(ErrorCode.INVALID_PARAMS, words))
            return
        number = channel.refs.get(target)
        if number is not None:
            members[member] = msgspec.Raw(b"%d" % number)
            turn.to_hub.append(encode_notification(message.event, _encoder.encode(members)))
        if message.ref is not None:
            turn.to_peer.append(frames.encode_reply(channel.join_ref, message.ref, channel.topic, "ok", EMPTY))

    # --- from the hub ---

    @override
    def send(self, message: bytes) -> list[Frame]:
        if message.startswith(_EVENT_MESSAGE):
            return self._readers.deliver(self._events.get(message))
        result = _RESULT_MESSAGE.match(message)
        if result is not None:
            return self._answered(int(result[1]), message[result.end() : -1])
        decoded = _hub_decoder.decode(message)
        match decoded.method:
            case "":
                return self._answered(decoded.id, bytes(decoded.result) or None, bytes(decoded.error))
            case hub.EVENT.name | hub.EVENT_GAP.name:
                return self._readers.deliver(
                    Published(EVENT if decoded.method == EVENT else GAP, bytes(decoded.params))
                )
            case hub.PROGRESS.name:
                return self._relay(decoded, "token")
            case hub.STREAM_CHUNK.name | hub.STREAM_CREDIT.name:
                return self._relay(decoded, "request_id")
            case _:
                return []  # requests are for clients that serve methods, which channels cannot

    def _answered(self, number: int | str | None, result: bytes | None, error: bytes = EMPTY) -> list[Frame]:
        """A response of the hub's: an error where ``result`` is None."""
        if not isinstance(number, int):  # what could not be read, so that nobody knows whose it was
            return [frames.encode_reply(None, None, CONTROL, "error", error)]
        pending = self._pending.pop(number, None)
        if pending is None:
            self._unsubscribed(number, succeeded=result is not None)
            return []
        channel, ref = pending.channel, pending.ref
        del channel.refs[ref]
        if result is None:
            if pending.kind == "join":
                del self._channels[channel.topic]
            return [frames.encode_reply(channel.join_ref, ref, channel.topic, "error", error)]
        if pending.kind == "join" and channel.reader is not None:
            position = _position_decoder.decode(result)
            channel.joined = True
            channel.reader.start(position.epoch, position.offset, recovered=position.recovered, before=channel.before)
            self._readers.add(channel.reader)
            result = self._remembered(channel.reader, channel.before, result, recovered=position.recovered)
        if pending.kind == "broadcast":
            result = EMPTY
        return [self._encode_result(channel.join_ref, ref, channel.topic, result)]

    def _remembered(self, reader: Reader, before: Reader | None, result: bytes, *, recovered: bool) -> bytes:
        """The result of a join, with how many of the recovered events the client may have already."""
        if self._memory is not None:
            self._memory.keep(reader)
        if before is None or not recovered:
            return result
        return b'%b,"repeats":%d}' % (result.removesuffix(b"}"), before.unconfirmed)

    def mark(self) -> None:
        """Remember how far the channels have come, for the next :meth:`confirm`."""
        if self._memory is not None:
            for channel in self._channels.values():
                if channel.reader is not None and channel.joined:
                    channel.reader.mark()

    def confirm(self) -> None:
        """The peer has what was sent until the last :meth:`mark`."""
        if self._memory is not None:
            self._memory.heard()
            for channel in self._channels.values():
                if channel.reader is not None:
                    channel.reader.confirm()

    def _unsubscribed(self, number: int, *, succeeded: bool) -> None:
        name = self._unsubscribing.pop(number, None)
        if name is not None and not succeeded and self._reader_of(name) is None:
            self._leftovers[name] = None

    def _relay(self, message: _FromHub, member: str) -> list[Frame]:
        """Something that belongs to a push which is in flight; ``member`` has the hub's id for it."""
        params = members_decoder.decode(message.params)
        pending = self._pending.get(_number_decoder.decode(params[member]))
        if pending is None:
            return []  # its channel was left
        params[member] = msgspec.Raw(pending.token if member == "token" else frames.encode_value(pending.ref))
        channel = pending.channel
        return [frames.encode_push(channel.join_ref, channel.topic, message.method, _encoder.encode(params))]

    @override
    def refuse(self, error: RpcError) -> list[Frame]:
        return [frames.encode_error(None, None, CONTROL, error)]
