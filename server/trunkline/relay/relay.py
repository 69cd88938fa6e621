"""Relays the JSON-RPC messages of one peer to a hub and back, over one connection after the other.

The peer's messages go out unchanged, under its own ids, numbered by a session that the peer knows nothing of: it does
not notice a lost connection. Calls that end with a lost session get error responses under the peer's ids. Only what has
to be restored is remembered: subscriptions, with the position that the peer has reached, and methods that it serves.
Calls *to* the peer get new ids, because another hub begins to count anew.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline.client.connection_state import DisconnectedError
from trunkline.client.conversation import Conversation
from trunkline.client.outgoing import not_sendable, refused_as_too_large
from trunkline.client.reconnecting import Client
from trunkline.relay.relay_messages import Chore, PeerAnswer, PeerMessage, encode, timeout_of
from trunkline_protocol import hub_methods as hub
from trunkline_protocol.calls import DEFAULT_TIMEOUT_MS
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.frame_numbers import seq_of
from trunkline_protocol.errors import DRAINING, ErrorCode, RpcError, is_draining
from trunkline_protocol.messages import Batch, Id, Malformed, Request, Response
from trunkline_protocol.session import ResumeRefusal, SessionAck
from trunkline_protocol.topics import is_wildcard

OWN: Final = "trunkline.relay:"
"""Prefix of the ids of the relay's own calls."""

OURS: Final = frozenset(
    {row.name for row in hub.METHODS.values() if row.scope == "handshake"}
    | {row.name for row in hub.NOTIFICATIONS.values() if row.from_client == "peer"}
)
"""Methods that the relay calls itself, and refuses to its peer."""

STEERING: Final = hub.about_calls("caller")
"""Notifications about a call of the peer, and the member with that call's id."""

DRAINING_MARK: Final = DRAINING.encode()

SERVING: Final = hub.about_calls("callee")
"""Notifications about a call *to* the peer, and the member with that call's id."""

UNSET: Final = msgspec.UNSET
Members = dict[str, msgspec.Raw]

logger = logging.getLogger("trunkline.client")


class _Incoming(msgspec.Struct):
    """A message of the hub; its payloads stay bytes."""

    id: Id | msgspec.UnsetType = UNSET
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"null")
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    principal: msgspec.Raw = msgspec.Raw(b"")
    result: msgspec.Raw | msgspec.UnsetType = UNSET
    error: msgspec.Raw | msgspec.UnsetType = UNSET
    seq: int | None = None


class _Position(msgspec.Struct):
    """The position in the result of ``subscribe``, or in the params of ``event`` or ``event.gap``."""

    topic: str
    epoch: str | None = None
    offset: int = 0
    to: int | None = None


_incoming: Final = msgspec.json.Decoder(_Incoming)
_position: Final = msgspec.json.Decoder(_Position)
_members: Final = msgspec.json.Decoder(Members)
_raw_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_id: Final = msgspec.json.Decoder(int | str | None)


class Relay(Client):
    """Relays the messages of one peer, told by a :class:`trunkline.client.reconnecting.Reconnector` of connections.

    Args:
        to_peer: takes each message for the peer.
        ended: called with the reason when there will be no connection any more.
    """

    def __init__(self, conversation: Conversation, to_peer: Callable[[bytes], None], ended: Callable[[str], None]):
        self._loop = asyncio.get_running_loop()
        self._conversation = conversation
        self._to_peer = to_peer
        self._ended = ended
        self._open: dict[Id, PeerMessage] = {}
        self._starting_until = 0.0  # loop time until which refusals count as those of a hub that has just started
        self._topics: dict[str, _Position] = {}
        self._served: dict[str, msgspec.Raw] = {}
        self._asked: dict[str, str] = {}  # calls to the peer: the id it knows -> the hub's id
        self._numbers = itertools.count(1)
        self._registering: dict[Id, bytes] = {}  # params of method.register calls without a response
        self._chores: dict[str, Chore] = {}

    @property
    def is_idle(self) -> bool:
        """Whether all calls of the peer have their response."""
        return not self._open

    # --- from the peer ---

    def receive(self, data: bytes) -> None:
        """Take a JSON-RPC message of the peer; one that is not valid is answered with an error."""
        data = data.lstrip()
        message = jsonrpc.decode(data, defaults.MAX_BATCH)
        try:
            if seq_of(data) is not None:
                raise RpcError(ErrorCode.INVALID_REQUEST, "seq is not allowed here: the relay keeps the session")
            if isinstance(message, Malformed):
                raise RpcError(message.code, message.message)
            if isinstance(message, Request):
                self._request(message, data)
            elif isinstance(message, Batch):
                self._batch(message, data)
            else:
                self._response(message)
        except RpcError as error:
            self._refuse(message, error)

    def _request(self, request: Request, data: bytes) -> None:
        method = request.method
        if method in OURS:
            raise RpcError(ErrorCode.INVALID_REQUEST, f"{method} is not allowed here: the relay keeps the session")
        if method in SERVING:
            self._serving(method, request)
            return
        ids: dict[Id, str] = {} if request.id is UNSET else {request.id: method}
        message = PeerMessage(data, ids, is_numbered=method not in hub.UNNUMBERED_CALLS or not ids)
        if not ids and method in STEERING:
            message.about = self._meant(method, request)
        if message.about is not None:
            message.about.is_fed |= method == hub.STREAM_PUSH.name
            if message.about.refusal is not None:
                self._steer_waiting(message.about, method)
                return
        self._send(message, method)
        if ids and method == hub.METHOD_REGISTER.name:
            self._registering.update(dict.fromkeys(ids, jsonrpc.params_of(request)))

    def _batch(self, batch: Batch, data: bytes) -> None:
        ids: dict[Id, str] = {}
        answers = [member for member in batch.members if isinstance(member, Response)]
        if answers and len(answers) < len(batch.members):
            raise RpcError(ErrorCode.INVALID_REQUEST, "responses and requests cannot be in one batch")
        if answers:
            for answer in answers:
                self._response(answer)
            return
        for member in batch.members:
            if isinstance(member, Malformed):
                raise RpcError(ErrorCode.INVALID_REQUEST, f"a member of the batch is malformed: {member.message}")
            if isinstance(member, Request) and member.id is not UNSET:
                ids[member.id] = member.method
            if isinstance(member, Request) and member.method in OURS:
                raise RpcError(
                    ErrorCode.INVALID_REQUEST, f"{member.method} is not allowed here: the relay keeps the session"
                )
        self._send(PeerMessage(data, ids), "a batch")

    def _send(self, message: PeerMessage, what: str) -> None:
        try:
            self._conversation.admit(what, message.size)
        except DisconnectedError as error:
            raise RpcError(ErrorCode.WORKER_UNAVAILABLE, str(error), retry_after_ms=1000) from error
        for request_id in message.ids:
            self._open.setdefault(request_id, message)  # an id in flight stays: the hub refuses its reuse under id null
        self._conversation.send(message)

    def _meant(self, method: str, request: Request) -> PeerMessage | None:
        try:
            return self._open.get(_id.decode(_members.decode(jsonrpc.params_of(request))[STEERING[method]]))
        except (msgspec.DecodeError, KeyError):
            return None

    def _refuse(self, message: Request | Response | Malformed | Batch, error: RpcError) -> None:
        wire = jsonrpc.encode_error_object(error)
        if isinstance(message, Batch):
            ids = [member.id for member in message.members if isinstance(member, Request) and member.id is not UNSET]
            for request_id in ids or [None]:
                self._to_peer(jsonrpc.encode_error(jsonrpc.encode_id(request_id), wire))
        elif isinstance(message, (Request, Malformed)) and message.id is not UNSET:
            self._to_peer(jsonrpc.encode_error(jsonrpc.encode_id(message.id), wire))
        else:
            logger.warning("a message of the peer was refused: %s", error)

    # --- calls that the peer serves ---

    def _response(self, response: Response) -> None:
        number = self._asked.pop(response.id, None) if isinstance(response.id, str) else None
        if number is None:
            if response.fault is not None:
                raise RpcError(response.fault.code, response.fault.message)
            logger.info("the peer answered the call %r, which is not in flight any more", response.id)
        elif response.fault is not None:
            error = RpcError(ErrorCode.SERIALIZATION_ERROR, response.fault.message, maybe_executed=True)
            self._answer(number, {"error": error.to_wire()})
        elif response.error is not None:
            self._answer(number, {"error": response.error})
        else:
            self._answer(number, {"result": response.result})

    def _answer(self, number: str, outcome: dict[str, Any]) -> None:
        answer = encode({"jsonrpc": "2.0", "id": number} | outcome)
        try:
            self._conversation.require_size(len(answer))
        except RpcError as error:
            answer = jsonrpc.encode_error(encode(number), jsonrpc.encode_error_object(not_sendable(error)))
        self._conversation.send(PeerAnswer(answer))

    def _serving(self, method: str, request: Request) -> None:
        try:
            params = _members.decode(jsonrpc.params_of(request))
            number = self._asked.get(_id.decode(params[SERVING[method]]))
        except (msgspec.DecodeError, KeyError):
            number = None
        if number is not None:
            notice = encode({"jsonrpc": "2.0", "method": method, "params": params | {SERVING[method]: number}})
            try:
                self._conversation.require_size(len(notice))
            except RpcError as error:
                notice = jsonrpc.encode_error(encode(number), jsonrpc.encode_error_object(not_sendable(error)))
                self._answer_served(number)
            self._conversation.send(PeerAnswer(notice))

    def _answer_served(self, number: str) -> None:
        """End a call to the peer, whose caller has its response already: cancel it at the peer."""
        for peers_id in [known for known, hubs_id in self._asked.items() if hubs_id == number]:
            del self._asked[peers_id]
            self._to_peer(jsonrpc.encode_cancel(peers_id))

    def _ask_peer(self, message: _Incoming) -> None:
        peers_id = f"h:{next(self._numbers)}"
        self._asked[peers_id] = str(message.id)
        metadata = _members.decode(message.metadata)
        if "progress_token" in metadata:
            metadata["progress_token"] = msgspec.Raw(encode(peers_id))
        about = message.method or "", message.params, encode(metadata), message.principal
        self._to_peer(jsonrpc.encode_request(peers_id, *about))

    def _tell_served(self, method: str, params: msgspec.Raw, member: str) -> bool:
        """Pass on the hub's notification about a call to the peer; returns False where it is about another call."""
        members = _members.decode(params)
        number = _id.decode(members[member])
        for peers_id, hubs_id in self._asked.items():
            if hubs_id == number:
                known = members | {member: peers_id}
                self._to_peer(encode({"jsonrpc": "2.0", "method": method, "params": known}))
                if method == hub.CANCEL_REQUEST.name:
                    del self._asked[peers_id]
                return True
        return False

    # --- from the hub ---

    @override
    def take(self, data: bytes) -> bool:
        members = _raw_list.decode(data) if data[:1] == b"[" else [data]
        messages = [_incoming.decode(member) for member in members]
        seq = next((message.seq for message in messages if message.seq is not None), None)
        if seq is not None and not self._conversation.receive(seq, len(data)):
            return False
        if data[:1] == b"[":
            for message in messages:
                self._answered(message)
            self._to_peer(b"[%b]" % b",".join([_without_seq(bytes(member)) for member in members]))
        else:
            self._take(messages[0], _without_seq(data) if seq is not None else data)
        return False

    def _take(self, message: _Incoming, data: bytes) -> None:
        method = message.method
        if method is None:
            if isinstance(message.id, str) and message.id.startswith(OWN):
                self._chore_done(message.id, message)
                return
            if self._waits(message, data):
                return
            self._answered(message)
        elif message.id is not UNSET:
            self._ask_peer(message)
            return
        elif method == hub.SESSION_ACK.name:
            ack = msgspec.json.decode(message.params, type=SessionAck)
            self._conversation.acknowledged(ack.received, last=ack.last)
            return
        elif method == hub.CANCEL_REQUEST.name:
            self._tell_served(method, message.params, "id")
            return
        elif method == hub.STREAM_CREDIT.name and self._tell_served(method, message.params, "request_id"):
            return
        elif method in (hub.EVENT.name, hub.EVENT_GAP.name):
            self._moved(_position.decode(message.params))
        self._to_peer(data)

    # --- calls that wait for the next hub while the present one stops ---

    def _waits(self, reply: _Incoming, data: bytes) -> bool:
        """Whether a response is a refusal that is kept back, because the call waits until the next hub is ready."""
        if reply.error is UNSET or reply.id is UNSET or (message := self._open.get(reply.id)) is None:
            return False
        now = self._loop.time()
        if message.is_fed or not (DRAINING_MARK in bytes(reply.error) or now < self._starting_until):
            return False
        error = msgspec.json.decode(reply.error)
        refusal = RpcError.from_wire(error)
        if refusal.code != ErrorCode.WORKER_UNAVAILABLE or refusal.maybe_executed:
            return False
        if message.expiry is None:
            message.expiry = now + timeout_of(message) / 1000
            self._loop.call_at(message.expiry, self._expired, message)
        if is_draining(error):
            waits = self._conversation.hold(message)
        else:
            due = now + (refusal.retry_after_ms or 1000) / 1000
            waits = due < message.expiry
            if waits:
                self._loop.call_at(due, self._ask_again, message)
        if waits:
            message.is_written, message.refusal = False, data
        return waits

    def _wait_unread(self, number: Id, message: PeerMessage, words: str) -> None:
        """Let a call that its hub did not read wait for the next one, as long as its timeout allows."""
        if message.expiry is None:
            message.expiry = self._loop.time() + timeout_of(message) / 1000
            self._loop.call_at(message.expiry, self._expired, message)
        error = RpcError(ErrorCode.WORKER_UNAVAILABLE, f"{message.ids[number]}: {words}", maybe_executed=False)
        refusal = jsonrpc.encode_error(jsonrpc.encode_id(number), jsonrpc.encode_error_object(error))
        message.is_written, message.refusal = False, refusal

    def _ask_again(self, message: PeerMessage) -> None:
        if message.refusal is not None:
            self._conversation.send(message)

    def _expired(self, message: PeerMessage) -> None:
        if message.refusal is not None:
            self._end_waiting(message, message.refusal)

    def _steer_waiting(self, message: PeerMessage, method: str) -> None:
        """End a call that waits for the next hub, because the peer cancels it or sends input for it."""
        [request_id] = message.ids
        cancelled = RpcError(ErrorCode.CANCELLED, f"{message.ids[request_id]} was cancelled")
        match method:
            case hub.STREAM_PUSH.name:
                self._expired(message)
            case hub.CANCELLED.name:
                self._end_waiting(message, None)
            case hub.CANCEL_REQUEST.name:
                answer = jsonrpc.encode_error(jsonrpc.encode_id(request_id), jsonrpc.encode_error_object(cancelled))
                self._end_waiting(message, answer)

    def _end_waiting(self, message: PeerMessage, answer: bytes | None) -> None:
        self._conversation.withdraw(message)
        message.refusal, message.is_over = None, True
        for request_id in message.ids:
            self._open.pop(request_id, None)
            self._registering.pop(request_id, None)
        if answer is not None:
            self._to_peer(answer)

    def _answered(self, reply: _Incoming) -> None:
        if reply.id is UNSET or reply.id not in self._open:
            return
        message = self._open.pop(reply.id)
        method = message.ids.pop(reply.id)
        message.is_over = not message.ids
        params = self._registering.pop(reply.id, None)
        if reply.result is UNSET:
            return
        if method == hub.SUBSCRIBE.name:
            position = _position.decode(reply.result)
            self._topics[position.topic] = position
        elif params is not None:
            self._served[msgspec.json.decode(params)["method"]] = msgspec.Raw(params)
        elif method == hub.UNSUBSCRIBE.name:
            self._topics.pop(_position.decode(reply.result).topic, None)
        elif method == hub.METHOD_UNREGISTER.name:
            self._served.pop(msgspec.json.decode(reply.result)["method"], None)

    def _moved(self, at: _Position) -> None:
        known = self._topics.get(at.topic)
        if known is not None and not is_wildcard(at.topic):
            known.epoch, known.offset = at.epoch, at.offset if at.to is None else at.to

    # --- connections ---

    @override
    def connected(self, resumed: bool) -> None:
        if self._starting_until:
            self._starting_until = self._loop.time() + DEFAULT_TIMEOUT_MS / 1000
        chores = [self._subscribe_again(position) for position in self._topics.values()]
        if not resumed:
            chores += [self._chore(hub.METHOD_REGISTER.name, params) for params in self._served.values()]
        self._conversation.send_first(chores)

    def _subscribe_again(self, position: _Position) -> Chore:
        params: dict[str, Any] = {"topic": position.topic}
        if is_wildcard(position.topic):
            return self._chore(hub.SUBSCRIBE.name, params, pattern=position.topic)
        if position.epoch is not None:
            params["recover"] = {"epoch": position.epoch, "offset": position.offset}
        return self._chore(hub.SUBSCRIBE.name, params)

    def _chore(self, method: str, params: Any, *, pattern: str | None = None) -> Chore:
        number = f"{OWN}{next(self._numbers)}"
        body = encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        self._chores[number] = chore = Chore(body, method, pattern)
        return chore

    def _chore_done(self, number: str, reply: _Incoming) -> None:
        chore = self._chores.pop(number, None)
        if reply.error is not UNSET:
            logger.warning("a subscription or registration could not be restored: %s", bytes(reply.error).decode())
        elif chore is not None and chore.pattern is not None:
            # A pattern has no position: it is not known whether events were missed.
            self._to_peer(jsonrpc.encode_gap(chore.pattern, "", 0, 0, None, "disconnected"))

    @override
    def too_large(self) -> None:
        alone = [message for message in self._open.values() if message.is_written and not message.is_numbered]
        largest = max(alone, key=lambda message: message.size, default=None)
        taken = self._conversation.take_out_oversized(0 if largest is None else largest.size)
        if taken is not None:
            found, error = taken
            self._refuse_calls(found.calls, error)
            if found.served is not None:
                self._answer_served(found.served)
        elif largest is not None:
            self._refuse_calls(tuple(largest.ids), refused_as_too_large(largest.size))

    def _refuse_calls(self, ids: Iterable[Id], error: RpcError) -> None:
        wire = jsonrpc.encode_error_object(error)
        for request_id in ids:
            if (message := self._open.get(request_id)) is not None:
                self._end_waiting(message, None)
                self._to_peer(jsonrpc.encode_error(jsonrpc.encode_id(request_id), wire))

    @override
    def cut(self) -> None:
        for number, chore in list(self._chores.items()):
            if not chore.is_numbered:
                self._conversation.withdraw(chore)
                del self._chores[number]
        again = [message for message in self._open.values() if not message.is_numbered and message.is_written]
        for message in again:  # calls about one connection only are made again on the next one
            message.is_written = False
        self._conversation.send_first(again)

    @override
    def lost(self, reason: ResumeRefusal | None, words: str) -> None:
        self._starting_until = inf
        self._chores.clear()
        unread = self._conversation.unread()
        for number, message in self._open.items():
            if message in unread and not message.is_fed and len(message.ids) == 1 and self._conversation.hold(message):
                self._wait_unread(number, message, words)
        self._fail((number for number, message in self._open.items() if message.is_written), words)
        asked, self._asked = self._asked, {}
        for peers_id in asked:  # their callers cannot get the outcome any more
            self._to_peer(jsonrpc.encode_cancel(peers_id))

    @override
    def ended(self, words: str, *, own: bool) -> None:
        self._fail(self._open, words)
        self._ended(words)

    def _fail(self, ids: Iterable[Id], words: str) -> None:
        for number in list(ids):
            message = self._open.pop(number)
            message.is_over = True
            self._registering.pop(number, None)
            written = message.is_written
            code = ErrorCode.WORKER_CRASHED if written else ErrorCode.WORKER_UNAVAILABLE
            error = RpcError(code, f"{message.ids[number]}: {words}", maybe_executed=written)
            self._to_peer(jsonrpc.encode_error(jsonrpc.encode_id(number), jsonrpc.encode_error_object(error)))


def _without_seq(data: bytes) -> bytes:
    """A message without its ``seq``, which the hub writes as the first member."""
    if not data.startswith(b'{"seq":'):
        return data
    return b"{" + data[data.index(b",") + 1 :]
