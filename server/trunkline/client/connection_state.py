"""Where a connection is, who wants to know, and the errors it ends with."""

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
    """How a connection ended: a WebSocket close code (1006 where there was none) and the reason in words."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} (close {self.code})" if self.reason else f"close {self.code}"


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection is there again. ``resumed``: the session goes on as if nothing had happened."""

    resumed: bool
    state: Literal["connected"] = field(default="connected", init=False)


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The connection is gone; attempt number ``attempt`` follows in ``delay`` seconds.

    ``cause`` is why it is gone, or why the last attempt failed.
    """

    attempt: int
    delay: float
    cause: CloseInfo
    state: Literal["reconnecting"] = field(default="reconnecting", init=False)


@dataclass(frozen=True, slots=True)
class Closed:
    """It does not come back."""

    code: int
    reason: str
    state: Literal["closed"] = field(default="closed", init=False)


ConnectionState = Connected | Reconnecting | Closed
Listener = Callable[[ConnectionState], None]


class Listeners:
    """Who is told of each change, in the order in which they were added."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell it from now on; returns what ends that."""
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    def tell(self, change: ConnectionState) -> None:
        """A listener that raises harms nobody; it is logged."""
        for listener in list(self._listeners.values()):
            try:
                listener(change)
            except Exception:
                logger.exception("a listener of the connection state failed")


class DisconnectedError(ConnectionError):
    """The connection is gone, and with it the outcome; or it is away, and there is no room to wait for it.

    Attributes:
        maybe_executed: False if it is certain that the hub never got the call.
        reason: why the hub did not let the session go on, where it said so.
    """

    def __init__(self, message: str, *, maybe_executed: bool, reason: ResumeRefusal | None = None) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed
        self.reason = reason


class HandshakeRefused(Exception):
    """The hub does not let this client in (HTTP 401 or 403): trying again is of no use."""
