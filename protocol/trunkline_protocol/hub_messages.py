"""Params and results of what a client says of its connection, of topics and of jobs, as data (SPEC.md).

What is asked of the hub's own state is in ``reports.py``, what sessions say in ``session.py``. Field descriptions are
what ``rpc.discover`` tells.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from trunkline_protocol.json_schema import Schema
from trunkline_protocol.messages import Id, Priority
from trunkline_protocol.principals import DEFAULT_TENANT

MAX_KEY_CHARS: Final = 256
"""Thousands of idempotency keys are remembered: each has to be small."""

MAX_PAGE: Final = 200
"""Jobs on one page of ``jobs.list``."""

# --- credentials ---


class AuthParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``auth``. The token is never logged and never echoed."""

    token: str


class Authenticated(msgspec.Struct):
    """Result of ``auth``."""

    principal: str
    roles: list[str]
    expires_in_ms: Annotated[int | None, Meta(description="null where the credentials do not expire")]
    tenant: str = DEFAULT_TENANT


# --- topics ---


MAX_HISTORY: Final = 10_000
"""Events that one subscription may ask for; a hub keeps as many as its settings say."""


MAX_POSITIONS: Final = 16_384
"""Positions of topics that one subscription to a pattern may name."""


class PositionParams(msgspec.Struct):
    """A place in a topic."""

    epoch: str
    offset: Annotated[int, Meta(ge=0)]


class RecoverParams(PositionParams):
    """Where a subscriber was; of a pattern ``as_of`` of its last subscription, and what it had of its topics since."""

    topics: Annotated[
        dict[str, PositionParams] | None, Meta(description="of a pattern: the positions of its topics")
    ] = None


class SubscribeParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``subscribe``."""

    topic: Annotated[str, Meta(description="a topic, or a pattern with * and >")]
    recover: Annotated[RecoverParams | None, Meta(description="replay the events after this position")] = None
    history: Annotated[int, Meta(ge=0, le=MAX_HISTORY, description="replay so many of the latest events")] = 0


class TopicGap(msgspec.Struct, omit_defaults=True):
    """Events that a hub does not have any more, as in ``event.gap``: those from ``from`` to ``to``, both included."""

    topic: str
    epoch: str
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    reason: str = msgspec.field(default_factory=str)
    count: int | None = None


class Subscribed(msgspec.Struct, omit_defaults=True):
    """Result of ``subscribe``. Delivery starts after ``offset``; a pattern has no position.

    Attributes:
        as_of: of a pattern: what to recover from another time.
        gaps: of a pattern that was recovered: what is missing of its topics.
    """

    topic: str
    epoch: str | None
    offset: int
    recovered: bool
    as_of: PositionParams | None = None
    gaps: list[TopicGap] = []


class HistoryParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``history``."""

    topic: Annotated[str, Meta(description="a topic without wildcards")]
    after: Annotated[RecoverParams | None, Meta(description="the first events after this position, not the latest")] = (
        None
    )
    limit: Annotated[int, Meta(ge=1, le=1000, description="events, at most")] = 100


class StoredEvent(msgspec.Struct, omit_defaults=True):
    """An event as its topic's history has it: the params of ``event``."""

    topic: str
    data: Any
    epoch: str
    offset: int
    published_at: int
    publisher: str = ""
    tenant: str = DEFAULT_TENANT


class History(msgspec.Struct, omit_defaults=True):
    """Result of ``history``. ``epoch`` and ``offset`` are those of the topic's last event.

    Attributes:
        events: in order, the oldest first.
        more: whether events follow that this answer has no room for.
        gap: what is missing between ``after`` and the first of the events; absent where nothing is.
    """

    topic: str
    epoch: str
    offset: int
    events: list[StoredEvent]
    more: bool
    gap: TopicGap | None = None


class UnsubscribeParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``unsubscribe``."""

    topic: Annotated[str, Meta(description="as it was subscribed to")]


class Unsubscribed(msgspec.Struct):
    """Result of ``unsubscribe``: whether there was such a subscription."""

    topic: str
    unsubscribed: bool


class PublishParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``publish``; ``data`` stays the bytes it came as."""

    topic: str
    data: msgspec.Raw
    idempotency_key: Annotated[str, Meta(max_length=MAX_KEY_CHARS)] | None = None


class Published(msgspec.Struct):
    """Result of ``publish``: where the event is stored."""

    topic: str
    epoch: str
    offset: int


class EventParams(msgspec.Struct):
    """Params of ``event``. ``published_at`` is milliseconds since 1970; the hub's own events have no ``publisher``.

    ``tenant`` is the publisher's, on topics that tenants share, where it is another than ``default``.
    """

    topic: str
    epoch: str
    data: Any
    offset: int
    published_at: int
    publisher: str | msgspec.UnsetType = msgspec.UNSET
    tenant: str | msgspec.UnsetType = msgspec.UNSET


class GapParams(msgspec.Struct, rename={"first": "from", "last": "to"}):
    """Params of ``event.gap``: these events, both ends included, do not come. ``count`` where it is known."""

    topic: str
    epoch: str
    first: int
    last: int
    reason: Literal["slow_consumer", "history", "epoch"]
    count: int | msgspec.UnsetType = msgspec.UNSET


# --- methods that clients serve ---


class RegisterParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``method.register``.

    Attributes:
        params, result: JSON Schemas, for the hub's documents; the hub checks no call by them.
    """

    method: str
    summary: Annotated[str, Meta(description="one line for rpc.discover")] = ""
    streaming: bool = False
    idempotent: bool = False
    max_concurrency: Annotated[int, Meta(description="calls at once, 1 to 10000")] = 32
    timeout_ms: int | None = None
    params: Annotated[Schema | None, Meta(description="JSON Schema, for rpc.discover")] = None
    result: Annotated[Schema | None, Meta(description="JSON Schema, for rpc.discover")] = None


class Registered(msgspec.Struct):
    """Result of ``method.register``: how many clients serve the method now."""

    method: str
    callees: int


class UnregisterParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``method.unregister``.

    Attributes:
        drain: answer when the calls that run have ended, and let others wait for another client, or this one, to serve
            the method again.
    """

    method: str
    drain: bool = False


class Unregistered(msgspec.Struct):
    """Result of ``method.unregister``: whether this connection served it."""

    method: str
    unregistered: bool


# --- notifications about a call ---


class ChunkParams(msgspec.Struct):
    """Params of ``stream_chunk``: ``index`` counts from 0; the final chunk carries no data."""

    request_id: Id
    chunk_type: str
    data: Any
    is_final: bool
    index: int


class ProgressParams(msgspec.Struct):
    """Params of ``$/progress``: ``token`` is the call's ``metadata.progress_token``."""

    token: str | int
    value: Any


class CancelRequestParams(msgspec.Struct):
    """Params of ``$/cancelRequest``."""

    id: Id


class CancelledParams(msgspec.Struct, rename={"request_id": "requestId"}):
    """Params of ``notifications/cancelled``, as MCP spells it."""

    request_id: Id


# --- jobs ---

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class JobCreateParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``jobs.create``; ``params`` stays the bytes it came as. The key may also be the call's own."""

    method: Annotated[str, Meta(description="an idempotent method of an executor, without streams")]
    params: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS)] | None = None
    priority: Priority = "low"


class JobParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``jobs.get`` and ``jobs.cancel``."""

    id: str


class JobListParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``jobs.list``; ``cursor`` is the one of the page before."""

    status: JobStatus | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50
    cursor: str | None = None


class JobView(msgspec.Struct, kw_only=True):
    """A job as its owner sees it. Times are milliseconds since 1970.

    ``progress`` is the last that the method reported, ``last_error`` that of the attempt before, where there is to be
    another.
    """

    id: str
    method: str
    status: JobStatus
    progress: Any
    error: dict[str, Any] | None
    last_error: dict[str, Any] | None
    attempts: int
    priority: Priority
    principal: str
    tenant: str = DEFAULT_TENANT
    created_at: int
    started_at: int | None
    finished_at: int | None


class JobWithResult(JobView, kw_only=True):
    """A job and what it returned; null where it has not, or has failed."""

    result: Any


class JobEvent(msgspec.Struct, omit_defaults=True):
    """``data`` of an event of ``jobs.<id>``: a job's new state, with a ``result`` that is small, and its ``error``."""

    id: str
    method: str
    status: JobStatus
    attempts: int
    progress: Any
    result: Any = msgspec.UNSET
    error: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class JobPage(msgspec.Struct):
    """Jobs, the newest first. ``cursor`` is for the next page; null where this is the last."""

    jobs: list[JobView]
    cursor: str | None


class CancelledJob(msgspec.Struct):
    """``cancelled``: it was not over, and this ended it. Otherwise ``status`` says how it had ended."""

    id: str
    status: JobStatus
    cancelled: bool
