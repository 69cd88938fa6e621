"""How a conversation with a hub ends when the connection does."""

from __future__ import annotations


class DisconnectedError(ConnectionError):
    """The connection is gone. ``maybe_executed`` says whether the call had been sent."""

    def __init__(self, message: str, *, maybe_executed: bool) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed
