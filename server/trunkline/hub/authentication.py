"""The call ``auth``, and the expiry of connections' credentials."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.hub.connection import ClientCall, Connection
from trunkline.hub.dispatch import Handlers, answering_connection
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import Authenticated, AuthParams
from trunkline_protocol.hub_methods import AUTH

CREDENTIALS_EXPIRED: Final = 4001
NOT_AUTHENTICATED: Final = 4501
TRY_AGAIN_LATER: Final = 1013

_encoder: Final = msgspec.json.Encoder()


class Authentication:
    """Authenticates connections by ``auth``, and closes those whose credentials expire, or that send none in time.

    Args:
        authenticate: returns the principal of a token and a peer's address; raises :class:`RpcError` 6001.
        seconds: how long a connection without credentials may stay.
        changed: called with each connection that has a new principal.
        may_keep: whether the methods that a connection serves may be served by this principal.
        require_room: raises :class:`RpcError` where a principal has as many connections as it may.
    """

    def __init__(
        self,
        authenticate: Callable[[str, str], Principal],
        seconds: float,
        changed: Callable[[Connection], None] = lambda _: None,
        may_keep: Callable[[Connection, Principal], bool] = lambda _, _principal: True,
        require_room: Callable[[Principal], None] = lambda _: None,
    ) -> None:
        self._authenticate = authenticate
        self._seconds = seconds
        self._changed = changed
        self._may_keep = may_keep
        self._require_room = require_room
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    def methods(self) -> Handlers:
        """The handler of ``auth``."""
        return answering_connection(AUTH, self._auth)

    def opened(self, connection: Connection) -> None:
        """Start the timer of a new connection that has not authenticated, or whose credentials expire."""
        principal = connection.principal
        if principal is PENDING:
            self._arm(connection, self._seconds, NOT_AUTHENTICATED, "no auth call came in time")
        elif principal.expires is not None:
            self._arm(connection, principal.expires - time.monotonic(), CREDENTIALS_EXPIRED, "credentials expired")

    def closed(self, connection: Connection) -> None:
        """Stop the timer of a connection."""
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _arm(self, connection: Connection, seconds: float, code: int, reason: str) -> None:
        self.closed(connection)
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(max(0.0, seconds), connection.close, code, reason)

    def _auth(self, call: ClientCall, params: AuthParams) -> None:
        connection = call.connection
        before = connection.principal
        try:
            principal = self._authenticate(params.token, connection.peer)
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
        left = None if principal.expires is None else int(1000 * (principal.expires - time.monotonic()))
        call.settle_result(
            _encoder.encode(Authenticated(principal.name, sorted(principal.roles), left, principal.tenant))
        )

    def _admit(self, connection: Connection, principal: Principal) -> None:
        connection.become(principal)
        self.closed(connection)
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
