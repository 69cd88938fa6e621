"""The states of a client's connection, their listeners, and the errors a connection ends with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.session import ResumeRefusal

State = Literal["connected", "reconnecting", "closed"]

ABNORMAL: Final = 1006
"""Close code of a connection that ended without one (RFC 6455)."""

NOT_AUTHENTICATED: Final = 4501
REFUSED: Final = 4502
"""Close codes of wrong credentials, and of an origin, host or path that the hub does not serve (SPEC.md)."""

logger = logging.getLogger("trunkline.client")


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """How a connection ended: the WebSocket close code (1006 where none was received) and the reason as text."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} (close {self.code})" if self.reason else f"close {self.code}"


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a connection again. ``resumed``: the session goes on, and nothing was lost."""

    resumed: bool
    state: Literal["connected"] = field(default="connected", init=False)


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The connection is lost; attempt number ``attempt`` to reconnect follows in ``delay`` seconds.

    ``cause`` is why the connection was lost, or why the last attempt failed.
    """

    attempt: int
    delay: float
    cause: CloseInfo
    state: Literal["reconnecting"] = field(default="reconnecting", init=False)


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection has ended for good; the client does not reconnect."""

    code: int
    reason: str
    state: Literal["closed"] = field(default="closed", init=False)


ConnectionState = Connected | Reconnecting | Closed
Listener = Callable[[ConnectionState], None]


class Listeners:
    """The listeners of state changes, called in the order in which they were added."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self._untold: list[ConnectionState] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns a function that removes it."""
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    def tell(self, change: ConnectionState) -> None:
        """Log a change and call all listeners with it; an exception of one is logged and does not affect the others.

        Each hears a change once, and all of them before the next one, which a listener may cause.
        """
        logger.info("the connection: %s", change)
        self._untold.append(change)
        if len(self._untold) > 1:
            return
        for untold in self._untold:  # which may grow
            for key, listener in list(self._listeners.items()):
                if key in self._listeners:
                    _call(listener, untold)
        self._untold.clear()


def _call(listener: Listener, change: ConnectionState) -> None:
    try:
        listener(change)
    except Exception:
        logger.exception("a listener of the connection state failed")


class DisconnectedError(ConnectionError):
    """The connection was lost, and the outcome with it; or there is none, and the queue for the next one is full.

    Attributes:
        maybe_executed: False if it is certain that the hub never received the call.
        reason: why the hub did not resume the session, where it said so.
    """

    def __init__(self, message: str, *, maybe_executed: bool, reason: ResumeRefusal | None = None) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed
        self.reason = reason


class AuthenticationError(Exception):
    """Raised by a ``token`` function: there is no token to be had, and no attempt to connect follows."""


class ConnectError(ConnectionError):
    """No connection came about: refused, unreachable, or too slow.

    Attributes:
        reason: why, in the hub's own words where it said them.
        status: of the HTTP answer that refused the connection; None where none came.
        error: the hub's error: 6001 wrong token, 6002 origin or host not allowed, 2003 full; None where it said none.
    """

    def __init__(self, url: str, reason: str, *, status: int | None = None, error: RpcError | None = None) -> None:
        super().__init__(f"cannot connect to {_without_secrets(url)}: {reason}")
        self.reason = reason
        self.status = status
        self.error = error

    @property
    def is_refused(self) -> bool:
        """Whether another attempt would be refused as well: the hub or a proxy says so, and not for the moment."""
        if self.error is None:
            return self.status in (401, 403)
        return not self.error.retryable and self.error.code != ErrorCode.INTERNAL_ERROR

    @property
    def close_code(self) -> int:
        """The close code that means the same (SPEC.md, Close codes)."""
        code = None if self.error is None else self.error.code
        if self.status == 401 or code == ErrorCode.UNAUTHENTICATED:
            return NOT_AUTHENTICATED
        return REFUSED if self.is_refused else ABNORMAL


class UsageError(Exception):
    """The call does not fit the method: a stream that was called, or a method that was streamed but is none.

    Attributes:
        result: what the method returned that is no stream; None of a stream.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


def _without_secrets(url: str) -> str:
    """A URL as it may stand in a log: without password and query."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}".partition("?")[0]
