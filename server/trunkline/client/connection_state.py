"""The states of a client's connection, their listeners, and the errors a connection ends with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from trunkline_protocol.session import ResumeRefusal

State = Literal["connected", "reconnecting", "closed"]

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

    def add(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns a function that removes it."""
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    def tell(self, change: ConnectionState) -> None:
        """Call all listeners with a change; an exception of one is logged and does not affect the others."""
        for listener in list(self._listeners.values()):
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


class HandshakeRefused(Exception):
    """The hub refused the connection (HTTP 401 or 403); it would refuse another attempt as well."""
