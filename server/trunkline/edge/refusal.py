"""A peer that is not let in, as logs and audit tell it."""

from __future__ import annotations

from typing import NamedTuple

from trunkline_protocol.errors import RpcError


class Refusal(NamedTuple):
    """A request or connection that was refused before anything of it was handled.

    Attributes:
        peer: its address, as of a connection.
        error: what it was answered with.
        request_id: under which its answer names it; empty where it was no request.
        token: what it presented. It is not to be written anywhere.
    """

    peer: str
    error: RpcError
    request_id: str = ""
    token: str | None = None

    def words(self) -> dict[str, str]:
        """What a log line says of it."""
        said = {"peer": self.peer, "reason": self.error.message}
        return said | {"request_id": self.request_id} if self.request_id else said
