"""The messages of the wire contract, as data (JSON-RPC 2.0 plus ``metadata``).

Envelopes are decoded, payloads are not: ``params`` and ``metadata`` stay the bytes they arrived as.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, final

import msgspec

from trunkline_protocol.request_ids import RequestId

Priority = Literal["low", "normal", "high"]
Id = int | str | None
"""A request id. Ids are typed: 1 is not "1"."""

RawOrUnset = msgspec.Raw | msgspec.UnsetType

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a peer's JSON may raise."""


@final
class Request(msgspec.Struct, frozen=True):
    """A request, or a notification where ``id`` is unset (JSON-RPC 2.0 section 4)."""

    jsonrpc: Literal["2.0"]
    method: str
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    params: RawOrUnset = msgspec.UNSET
    metadata: RawOrUnset = msgspec.UNSET


class Response(msgspec.Struct, frozen=True):
    """A peer's answer to a request that was sent to it: a result, an error, or what is wrong with the answer."""

    id: Id
    result: RawOrUnset = msgspec.UNSET
    error: dict[str, Any] | None = None
    fault: Malformed | None = None


@final
class Malformed(msgspec.Struct, frozen=True):
    """Something that is no valid message, with its id where that could be recovered."""

    id: Id
    code: int
    message: str


@final
class Batch(msgspec.Struct, frozen=True):
    """A JSON-RPC batch (section 6), in the order it was sent."""

    members: list[Request | Response | Malformed]


class HubLimits(msgspec.Struct, frozen=True):
    """The limits of a hub: bytes of a message, levels of its params (SPEC.md, Connecting), members of a batch."""

    max_message_bytes: int
    max_depth: int
    max_batch: int


class HubIdentity(msgspec.Struct, frozen=True):
    """The name and version of a hub."""

    name: str
    version: str


class StreamPush(msgspec.Struct, frozen=True):
    """Params of ``stream.push``: one item of a running call's input, or its end, which carries none.

    ``request_id`` is the ``id`` of the call; ``index`` counts from 0; ``data`` stays the bytes it came as.
    """

    request_id: Id
    index: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    data: RawOrUnset = msgspec.UNSET
    is_final: bool = False


class Window(msgspec.Struct, frozen=True):
    """How far a stream may run ahead of what its reader has consumed, in items and in bytes of their data."""

    items: Annotated[int, msgspec.Meta(ge=1, le=2**53)] = 64
    bytes: Annotated[int, msgspec.Meta(ge=1, le=2**53)] = 256 * 1024


class StreamCredit(msgspec.Struct, frozen=True):
    """Params of ``stream.credit``: how many items of a stream were consumed so far, in total."""

    request_id: Id
    consumed: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class ActAs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``metadata.act_as``: the principal on whose behalf a gateway makes a call."""

    principal: str
    tenant: str | None = None
    claims: dict[str, Any] | None = None


class Metadata(msgspec.Struct, frozen=True):
    """The members of ``metadata`` the hub acts on; unknown ones are passed on untouched.

    ``timeout_ms`` is in milliseconds, from receipt for calls, between chunks for streams.
    """

    priority: Priority = "normal"
    timeout_ms: int | float | None = None
    progress_token: str | int | None = None
    request_id: RequestId | None = None
    idempotency_key: str | None = None
    idempotency_epoch: str | None = None
    traceparent: str | None = None
    window: Window | None = None
    act_as: ActAs | None = None


NO_METADATA = Metadata()

CALLERS_OWN: Final = frozenset({"act_as", "idempotency_epoch", "idempotency_key", "progress_token", "window"})
"""Metadata that means the caller's call and its reader, not the calls that are made on its behalf."""
