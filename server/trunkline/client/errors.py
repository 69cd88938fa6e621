"""How a conversation with a hub ends when the connection does."""

from __future__ import annotations

from trunkline_protocol.session import ResumeRefusal


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


class Refused(Exception):
    """The hub does not let this client in (HTTP 401 or 403): trying again is of no use."""
