"""The messages of the wire contract, as data (JSON-RPC 2.0 plus ``metadata``).

Envelopes are decoded, payloads are not: ``params`` and ``metadata`` stay the bytes they arrived as.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Priority = Literal["low", "normal", "high"]
Id = int | str | None
"""A request id. Ids are typed: 1 is not "1"."""

RawOrUnset = msgspec.Raw | msgspec.UnsetType


class Request(msgspec.Struct, frozen=True):
    """A request, or a notification where ``id`` is unset (JSON-RPC 2.0 section 4)."""

    jsonrpc: Literal["2.0"]
    method: str
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    params: RawOrUnset = msgspec.UNSET
    metadata: RawOrUnset = msgspec.UNSET


class Response(msgspec.Struct, frozen=True):
    """A peer's answer to a request that was sent to it."""

    id: Id
    result: RawOrUnset = msgspec.UNSET
    error: dict[str, Any] | None = None


class Malformed(msgspec.Struct, frozen=True):
    """Something that is no valid message, with its id where that could be recovered."""

    id: Id
    code: int
    message: str


class Batch(msgspec.Struct, frozen=True):
    """A JSON-RPC batch (section 6), in the order it was sent."""

    members: list[Request | Response | Malformed]


class Metadata(msgspec.Struct, frozen=True):
    """The members of ``metadata`` the hub acts on; unknown ones are passed on untouched.

    ``timeout_ms`` is in milliseconds, from receipt for calls, between chunks for streams.
    """

    priority: Priority = "normal"
    timeout_ms: int | float | None = None
    progress_token: str | int | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None


NO_METADATA = Metadata()
