"""The call ``auth``, and the expiry of connections' credentials."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.background import start_task
from trunkline.hub.connection import ClientCall, Connection
from trunkline.hub.dispatch import Handlers, answering_connection
from trunkline.hub.principal import (
    PENDING,
    AnsweredHandshake,
    Authenticate,
    Handshake,
    Prepare,
    Principal,
    nothing_to_ask,
)
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.hub_messages import Authenticated, AuthParams
from trunkline_protocol.hub_methods import AUTH

CREDENTIALS_EXPIRED: Final = 4001
NOT_AUTHENTICATED: Final = 4501
NOT_ALLOWED: Final = 4502
"""Close code of an origin, host, path, version or tenant that this hub does not serve: to try again is of no use."""
TRY_AGAIN_LATER: Final = 1013

LOST: Final = "the connection was lost while the authenticate hook was asked; call auth again"

_encoder: Final = msgspec.json.Encoder()


class Authentication:
    """Authenticates connections by ``auth``, and closes those whose credentials expire, or that send none in time.

    Args:
        authenticate: returns the principal of a handshake, which has a token and a peer's address alone; raises
            :class:`RpcError` 6001.
        seconds: how long a connection without credentials may stay.
        changed: called with each connection that has a new principal.
        may_keep: whether the methods that a connection serves may be served by this principal.
        require_room: raises :class:`RpcError` where a principal has as many connections as it may.
        prepare: what to await before ``authenticate``; see :data:`trunkline.hub.principal.Prepare`.
        max_seconds: how long credentials that do not expire sooner, or never, let a connection live; 0 for ever.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        seconds: float,
        changed: Callable[[Connection], None] = lambda _: None,
        may_keep: Callable[[Connection, Principal], bool] = lambda _, _principal: True,
        require_room: Callable[[Principal], None] = lambda _: None,
        prepare: Prepare = nothing_to_ask,
        max_seconds: float = 0.0,
    ) -> None:
        self._authenticate = authenticate
        self._seconds = seconds
        self._changed = changed
        self._may_keep = may_keep
        self._require_room = require_room
        self._prepare = prepare
        self._max_seconds = max_seconds
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    def methods(self) -> Handlers:
        """The handler of ``auth``."""
        return answering_connection(AUTH, self._auth)

    def opened(self, connection: Connection) -> None:
        """Start the timer of a new connection that has not authenticated, or whose credentials expire."""
        principal = connection.principal
        if principal is PENDING:
            self._arm(connection, self._seconds, NOT_AUTHENTICATED, "no auth call came in time")
        elif (left := self._seconds_left(principal)) is not None:
            self._arm(connection, left, CREDENTIALS_EXPIRED, "credentials expired")

    def _seconds_left(self, principal: Principal) -> float | None:
        """How long a principal that has just authenticated may stay; None for ever."""
        left = None if principal.expires is None else principal.expires - time.monotonic()
        if not self._max_seconds or not principal.credential:
            return left
        return self._max_seconds if left is None else min(left, self._max_seconds)

    def closed(self, connection: Connection) -> None:
        """Stop the timer of a connection, and what it waits for."""
        self._disarm(connection)
        if connection.authenticating is not None:
            connection.authenticating.cancel()
            connection.authenticating = None

    def _disarm(self, connection: Connection) -> None:
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _arm(self, connection: Connection, seconds: float, code: int, reason: str) -> None:
        self._disarm(connection)
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(max(0.0, seconds), connection.close, code, reason)

    def _auth(self, call: ClientCall, params: AuthParams) -> None:
        connection = call.connection
        if connection.authenticating is not None:
            words = "an auth call of this connection waits for its answer; send the next one after that"
            raise limit_error("authenticate", words)
        handshake = Handshake("", connection.peer, {}, params.token)
        asking = self._prepare(handshake)
        if asking is None:
            self._decide(call, handshake)
            return
        if connection.principal is PENDING:
            self._disarm(connection)  # it has called in time, and waiting has a limit of its own
        connection.authenticating = start_task(asking, call.method)
        connection.authenticating.add_done_callback(functools.partial(self._asked, call))

    def _asked(self, call: ClientCall, task: asyncio.Task[AnsweredHandshake]) -> None:
        connection = call.connection
        try:
            if connection.authenticating is not task or task.cancelled():
                raise RpcError(ErrorCode.WORKER_UNAVAILABLE, LOST, maybe_executed=False, retry_after_ms=0)
            connection.authenticating = None
            self._decide(call, task.result())
        except RpcError as error:
            call.settle_error(error)
            if connection.principal is PENDING and not task.cancelled():
                self.opened(connection)

    def _decide(self, call: ClientCall, handshake: Handshake) -> None:
        """Settle a call of ``auth``; raises the refusal."""
        connection = call.connection
        before = connection.principal
        try:
            principal = self._authenticate(handshake)
            if before is not PENDING and (principal.name, principal.tenant) != (before.name, before.tenant):
                other = f"{principal.name} of tenant {principal.tenant}"
                words = f"this connection belongs to {before.name} of tenant {before.tenant}"
                raise RpcError(ErrorCode.FORBIDDEN, f"{words}; open another one to authenticate as {other}")
            if before is PENDING:
                self._require_room(principal)
        except RpcError as error:
            # Where the issuer's keys are on their way, the same call may do in a moment.
            if before is PENDING and error.code != ErrorCode.WORKER_UNAVAILABLE:
                code, reason = NOT_AUTHENTICATED, "the token is not valid"
                if error.retryable:  # a limit: the same token may do later
                    code, reason = TRY_AGAIN_LATER, error.message
                asyncio.get_running_loop().call_soon(connection.close, code, reason)
            raise
        self._admit(connection, principal)
        left = self._seconds_left(principal)
        left_ms = None if left is None else int(1000 * left)
        call.settle_result(
            _encoder.encode(Authenticated(principal.name, sorted(principal.roles), left_ms, principal.tenant))
        )

    def _admit(self, connection: Connection, principal: Principal) -> None:
        connection.become(principal)
        self._disarm(connection)
        self.opened(connection)
        self._changed(connection)
        if not all(map(principal.may_subscribe, connection.subscriptions)):
            # Removing the subscriptions silently would lose events: the client reconnects, and gets the refusal.
            asyncio.get_running_loop().call_soon(
                connection.close, CREDENTIALS_EXPIRED, "the new credentials do not allow all subscriptions"
            )
        elif not self._may_keep(connection, principal):
            asyncio.get_running_loop().call_soon(
                connection.close, CREDENTIALS_EXPIRED, "the new credentials do not allow all methods that it serves"
            )
