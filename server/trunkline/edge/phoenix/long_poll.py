"""``/socket/longpoll``: Phoenix Channels by long polling, for pages whose proxies let no WebSocket through.

A GET without a token of the hub's opens a session and is answered with 410 and a token, as phoenix.js expects; a GET
with one waits for messages; a POST has messages for the hub. The status that counts is a member of the body.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from trunkline.background import start_task
from trunkline.edge.context import MAX_CLIENT_CHARS, EdgeContext
from trunkline.edge.http.answer import HttpAnswer, Refused, error_headers, send_answer
from trunkline.edge.http.body import PeerLeft, read_body
from trunkline.edge.http.named_requests import request_id_of
from trunkline.edge.http.request import (
    JSON_TYPES,
    METHOD_NOT_ALLOWED,
    answered,
    media_type,
    peer_of,
    require_uncompressed,
    unsupported_type,
    wire_of,
)
from trunkline.edge.phoenix.endpoint import PhoenixEndpoint
from trunkline.edge.phoenix.poll_session import Poll, PollSession
from trunkline.edge.refusal import Refusal
from trunkline.edge.websocket.door import MAX_PARAMS
from trunkline.hub.principal import PENDING, Handshake, Principal
from trunkline_protocol.codecs.phoenix_polls import (
    GONE,
    MESSAGES,
    NOTHING,
    PollToken,
    decode_token,
    encode_answer,
    encode_refusal,
    frames_of,
)
from trunkline_protocol.codecs.phoenix_v2 import PhoenixDialect
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.traces import from_headers

PATH: Final = "/socket/longpoll"
WINDOW: Final = 10.0
"""Seconds until a poll is answered that nothing came; phoenix.js gives up after 20."""

MAX_POSTS: Final = 16
"""Of one session at a time; phoenix.js sends one after the other."""

LINES: Final = "application/x-ndjson"
AT_ONCE: Final = 64
"""Messages of one body that are taken in one turn of the loop."""

HEADERS: Final = {"Cache-Control": "no-store"}

logger = logging.getLogger("trunkline.edge")


class LongPollEndpoint:
    """The ASGI application at :data:`PATH`.

    Args:
        context: what all connections of the hub share.
        endpoint: that of the same channels over WebSockets.
    """

    def __init__(self, context: EdgeContext, endpoint: PhoenixEndpoint) -> None:
        self._context = context
        self._endpoint = endpoint
        self._sessions: dict[str, PollSession] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            answer = await self._answer(scope, receive)
            await send_answer(send, HttpAnswer(200, answer, HEADERS))
        except PeerLeft:
            pass
        except Refused as refused:
            headers = HEADERS | error_headers(refused.error) | refused.headers
            await send_answer(send, HttpAnswer(refused.status, encode_refusal(refused.error), headers))

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        headers = Headers(scope=scope)
        params, shown = _query(scope)
        token = self._endpoint.token(headers, params)
        handshake = Handshake(PATH, peer_of(scope), headers, token, params, wire_of(scope).certificate)
        if scope["method"] not in ("GET", "POST"):
            error = RpcError(
                ErrorCode.INVALID_REQUEST, f"{scope['method']} is not supported here; GET polls, POST sends"
            )
            raise Refused(error, METHOD_NOT_ALLOWED, {"Allow": "GET, POST"})
        if shown is None and scope["method"] == "GET":
            if self._context.access.may_wait:
                handshake = await answered(scope, handshake, self._context.prepare(handshake))
            return encode_answer(GONE, self._open(scope, handshake).token)
        self._check_address(scope, handshake)
        session = None if shown is None else self._sessions.get(shown.secret)
        if shown is None or session is None:
            return encode_answer(GONE)
        if scope["method"] == "POST":
            if handshake.token is not None:  # phoenix.js sends none with it
                _require_same(session, handshake)
            return await self._take(session, headers, receive)
        _require_same(session, handshake)
        return await self._poll(session, shown, scope, receive)

    # --- who comes in ---

    def _open(self, scope: Scope, handshake: Handshake) -> PollSession:
        """A new session, for a peer that is let in as over a WebSocket."""
        context, headers = self._context, handshake.headers
        principal, dialect = self._admit(scope, handshake)
        client = headers.get("user-agent", "")[:MAX_CLIENT_CHARS] or None
        digest = _digest(handshake.token)
        session = PollSession(context, principal, digest, handshake.peer, client, dialect, self._ended)
        self._sessions[session.secret] = session
        session.begin(from_headers(headers.get("traceparent"), headers.get("tracestate")))
        return session

    def _admit(self, scope: Scope, handshake: Handshake) -> tuple[Principal, PhoenixDialect]:
        """The principal of a new session, and its dialect; all that has to do with credentials is here.

        Raises:
            Refused: host, origin, version or credentials are not right, or there are too many connections.
        """
        try:
            self._context.check_room(handshake.peer)
            principal = self._context.admit(handshake)
            dialect = self._endpoint.dialect(handshake.params, principal, takes_binary=False)
        except RpcError as error:
            # No name here may hold it: with its traceback, which has this frame, it would be a cycle.
            self._note(Refusal(handshake.peer, error, request_id_of(scope), handshake.token))
            raise Refused(error) from error
        return principal, dialect

    def _check_address(self, scope: Scope, handshake: Handshake) -> None:
        try:
            self._context.access.check_address(handshake)
        except RpcError as error:
            self._note(Refusal(handshake.peer, error, request_id_of(scope)))
            raise Refused(error) from error

    def _note(self, refusal: Refusal) -> None:
        self._context.refused(refusal)
        logger.warning("poll refused", extra=refusal.words())

    def _ended(self, session: PollSession) -> None:
        self._sessions.pop(session.secret, None)

    # --- polls and messages ---

    async def _poll(self, session: PollSession, shown: PollToken, scope: Scope, receive: Receive) -> bytes:
        if not session.knows(shown.turn):
            return encode_answer(GONE)  # a repetition of a poll whose answer has arrived: nobody waits for this one
        context, poll = self._context, Poll()
        wire_of(scope).limit_silence(context.ping_interval + context.ping_timeout)
        watcher = start_task(_watch(poll, receive), "peer of a poll")
        try:
            messages = await session.fetch(shown.turn, poll, min(WINDOW, context.ping_interval))
        finally:
            watcher.cancel()
        if messages:
            return encode_answer(MESSAGES, session.token, messages)
        if session.is_over:
            return encode_answer(GONE)
        return encode_answer(NOTHING, session.token)

    async def _take(self, session: PollSession, headers: Headers, receive: Receive) -> bytes:
        is_lines = media_type(headers.get("content-type", ""))[0] == LINES
        if not is_lines and media_type(headers.get("content-type", ""))[0] not in JSON_TYPES:
            raise unsupported_type(headers, (LINES, "application/json"))
        require_uncompressed(headers)
        if session.posts >= MAX_POSTS:
            words = f"{session.posts} requests of this session send messages already; send one after the other"
            error = RpcError(
                ErrorCode.RESOURCE_EXHAUSTED, words, retry_after_ms=1000, data={"limit": "long_poll_posts"}
            )
            raise Refused(error)
        session.posts += 1
        try:
            async with session.turns:
                await session.wait_for_room()
                self._require_authenticated(session, headers)
                body = await read_body(self._context, session.principal, headers, receive)
                await _hand_over(session, body, is_lines=is_lines)
        finally:
            session.posts -= 1
        return encode_answer(GONE if session.is_over else MESSAGES, None if session.is_over else session.token)

    def _require_authenticated(self, session: PollSession, headers: Headers) -> None:
        """Refuse a large body of a peer that has not authenticated, before it is read."""
        length = headers.get("content-length", "")
        limit = self._context.services.limits.pending_bytes
        if session.principal is PENDING and not (length.isdecimal() and int(length) <= limit):
            raise Refused(RpcError(ErrorCode.UNAUTHENTICATED, "authenticate before you send large messages"))


async def _hand_over(session: PollSession, body: bytes, *, is_lines: bool) -> None:
    for number, frame in enumerate(frames_of(body, is_lines=is_lines), 1):
        await session.wait_for_room()
        session.take(frame)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)


async def _watch(poll: Poll, receive: Receive) -> None:
    """End a poll whose peer has disconnected: what it would be given waits for the next one."""
    while (await receive())["type"] != "http.disconnect":
        pass
    poll.is_over = True
    poll.news.set()


def _query(scope: Scope) -> tuple[dict[str, str], PollToken | None]:
    """The params of the query without the hub's own token, and that token.

    phoenix.js puts it behind the user's params, and so behind a param ``token`` of theirs.
    """
    try:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMS)
    except ValueError as error:
        words = f"the query has more than {MAX_PARAMS} parameters"
        raise Refused(RpcError(ErrorCode.INVALID_REQUEST, words)) from error
    shown = None
    params: dict[str, str] = {}
    for name, value in pairs:
        own = decode_token(value) if name == "token" else None
        if own is None:
            params[name] = value
        else:
            shown = own
    return params, shown


def _digest(token: str | None) -> bytes | None:
    return None if token is None else hashlib.sha256(token.encode()).digest()


def _require_same(session: PollSession, handshake: Handshake) -> None:
    """Refuse a poll with other credentials than its session was opened with."""
    if _digest(handshake.token) != session.credential:
        words = "the token of this poll belongs to a session of other credentials; connect again"
        raise Refused(RpcError(ErrorCode.FORBIDDEN, words))
