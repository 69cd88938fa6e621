"""The tables of the hub's own methods, and of the notifications of the wire protocol. Pure.

All that depends on one of these names, or on a rule about it, reads the tables: dispatch and doors of the hub, its
documents, clients, codecs, the generator of typed clients, executors when they load modules, and SPEC.md
(``scripts/write_tables.py``). Handlers are bound to the rows in the hub (``hub/dispatch.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from trunkline_protocol import administration as admin
from trunkline_protocol import conversation_messages as talks
from trunkline_protocol import health_reports, reports
from trunkline_protocol import hub_messages as said
from trunkline_protocol import tenant_messages as tenants
from trunkline_protocol.messages import StreamCredit, StreamPush
from trunkline_protocol.session import SessionAck, SessionClose, SessionOpen, SessionOpened

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R")

Right = Literal["anybody", "granted", "subscribe", "publish", "callee", "admin"]
"""Who may call a method.

``anybody``: every connected principal, to authenticate, to ask for health and methods, to release what it has.
``granted``: principals whose patterns of methods allow it. ``subscribe``, ``publish``: also those with patterns of
topics for that; the topic has to match one of them. ``callee``, ``admin``: requires the role, beside being granted.
"""

Scope = Literal["hub", "connection", "handshake"]
"""What a method is about.

``connection`` and ``handshake`` need a persistent connection, and an id: they are refused over HTTP, when called by
methods, and as notifications. ``handshake``: the peer's identity and its session; a relay makes these calls itself for
the connections that it relays.
"""


@dataclass(frozen=True, slots=True)
class HubMethod(Generic[P, R]):
    """A method that the hub answers itself. No client and no executor can serve a method of that name.

    Attributes:
        summary: one line for ``rpc.discover``.
        params: the type that params are decoded as.
        result: the type of the result, for :func:`msgspec.json.schema`.
        idempotent: whether two calls have the effect of one.
        in_batch: whether a batch may contain it; not where the order of its reply among other frames matters.
        before_auth: whether it may be called before the peer has authenticated.
        numbered: whether request and reply are numbered in a session; not where they are of no use to the connection
            after a cut.
        listed: whether ``rpc.discover`` lists it.
        target: the params that name what a call is about: the audit log has their values, and no other params'.
    """

    name: str
    summary: str
    params: type[P]
    result: type[R]
    right: Right = "granted"
    scope: Scope = "hub"
    idempotent: bool = True
    in_batch: bool = True
    before_auth: bool = False
    numbered: bool = True
    listed: bool = True
    target: tuple[str, ...] = ()

    @property
    def needs_connection(self) -> bool:
        """Whether the method needs a persistent connection, and an id."""
        return self.scope != "hub"

    @property
    def is_clients_own(self) -> bool:
        """Whether clients have a function for the method: a plain call would bypass the state that they keep."""
        return self.needs_connection or self.right == "publish"

    @property
    def is_tool(self) -> bool:
        """Whether MCP clients get the method as a tool: it needs no role, no topics and no connection."""
        return not self.needs_connection and self.right in ("anybody", "granted")


@dataclass(frozen=True, slots=True)
class HubNotification:
    """A notification of the wire protocol. It is no method: as a request it is unknown (-32601).

    Attributes:
        summary: one line for ``/asyncapi.json``.
        params: the type of the params; readers may be more lenient.
        from_client: the role in which a client sends it: as ``caller`` or ``callee`` of a call, or as ``peer`` of a
            session; None where only the hub sends it.
        from_hub: whether the hub sends it.
        refers_to: the param with the id of the call it is about.
        numbered: whether it is numbered in a session.
        in_batch: whether a batch may contain a request of this name.
    """

    name: str
    summary: str
    params: type[msgspec.Struct]
    from_client: Literal["caller", "callee", "peer"] | None = None
    from_hub: bool = True
    refers_to: str | None = None
    numbered: bool = True
    in_batch: bool = True


# --- who the peer is, and its session ---

AUTH: Final = HubMethod(
    "auth", "Authenticate, or renew credentials before they expire",
    said.AuthParams, said.Authenticated,
    right="anybody", scope="handshake", in_batch=False, before_auth=True, numbered=False,
)  # fmt: skip
SESSION_OPEN: Final = HubMethod(
    "session.open", "Open a session, or resume one after a cut",
    SessionOpen, SessionOpened,
    right="anybody", scope="handshake", idempotent=False, in_batch=False, numbered=False, listed=False,
)  # fmt: skip
SESSION_CLOSE: Final = HubMethod(
    "session.close", "End the session, with its calls, and close the connection",
    SessionClose, SessionClose, right="anybody", scope="handshake", in_batch=False, numbered=False, listed=False,
)  # fmt: skip

# --- publish and subscribe ---

SUBSCRIBE: Final = HubMethod(
    "subscribe", "Subscribe this connection to a topic or pattern",
    said.SubscribeParams, said.Subscribed, right="subscribe", scope="connection", in_batch=False, numbered=False,
    target=("topic",),
)  # fmt: skip
UNSUBSCRIBE: Final = HubMethod(
    "unsubscribe", "Unsubscribe this connection from a topic or pattern",
    said.UnsubscribeParams, said.Unsubscribed, right="anybody", scope="connection", in_batch=False, numbered=False,
    target=("topic",),
)  # fmt: skip
HISTORY: Final = HubMethod(
    "history", "List the latest events of a topic, or those after a position, as far as they are kept",
    said.HistoryParams, said.History, right="subscribe", target=("topic",),
)  # fmt: skip
PUBLISH: Final = HubMethod(
    "publish", "Publish an event to a topic: store it and deliver it to the subscribers",
    said.PublishParams, said.Published, right="publish", idempotent=False, target=("topic",),
)  # fmt: skip

# --- methods that clients serve ---

METHOD_REGISTER: Final = HubMethod(
    "method.register", "Register a method that this client serves to others (role callee)",
    said.RegisterParams, said.Registered, right="callee", scope="connection", in_batch=False, target=("method",),
)  # fmt: skip
METHOD_UNREGISTER: Final = HubMethod(
    "method.unregister", "Unregister a method that this client serves",
    said.UnregisterParams, said.Unregistered, scope="connection", target=("method",),
)  # fmt: skip

# --- reports about the hub ---

RPC_PING: Final = HubMethod(
    "rpc.ping", "Answer at once, for clients that cannot send WebSocket pings",
    reports.NoParams, reports.Pong, right="anybody", numbered=False,
)  # fmt: skip
RPC_DISCOVER: Final = HubMethod(
    "rpc.discover", "The methods that can be called, as an OpenRPC document",
    reports.NoParams, reports.OpenRpcDocument, right="anybody",
)  # fmt: skip
HEALTH_CHECK: Final = HubMethod(
    "health.check", "Health of the hub",
    reports.NoParams, health_reports.Health, right="anybody",
)  # fmt: skip
HEALTH_DETAILED: Final = HubMethod(
    "health.detailed", "Health of the hub and of each executor, with the causes where it is not healthy",
    reports.NoParams, health_reports.DetailedHealth,
)  # fmt: skip
SYSTEM_INFO: Final = HubMethod(
    "system.info", "Versions, machine and executor pool",
    reports.NoParams, reports.SystemInfo,
)  # fmt: skip
METRICS_GET: Final = HubMethod(
    "metrics.get", "Call counts and latencies by method, since the start or of a time range",
    reports.MetricsParams, reports.Metrics,
)  # fmt: skip

# --- for operators ---

SYSTEM_CALLS: Final = HubMethod(
    "system.calls", "The calls in flight, the oldest first (role admin)",
    reports.CallsParams, reports.CallList, right="admin",
)  # fmt: skip
SYSTEM_CANCEL: Final = HubMethod(
    "system.cancel", "Cancel a call in flight, whoever made it (role admin)",
    reports.CancelParams, reports.CancelledCall, right="admin", target=("call",),
)  # fmt: skip
SYSTEM_TOPICS: Final = HubMethod(
    "system.topics", "The topics with the latest events, and the subscriptions (role admin)",
    reports.TopicsParams, reports.TopicList, right="admin",
)  # fmt: skip
SYSTEM_FAILURE: Final = HubMethod(
    "system.failure", "The params of a call that failed lately, secrets redacted (role admin)",
    reports.FailureParams, reports.Failure, right="admin", target=("failure",),
)  # fmt: skip
EXECUTORS_DRAIN: Final = HubMethod(
    "executors.drain", "Hand over what an executor owns and replace its process (role admin)",
    reports.DrainParams, reports.Drained, right="admin", idempotent=False, target=("worker_id",),
)  # fmt: skip
EXECUTORS_RELOAD: Final = HubMethod(
    "executors.reload", "Replace executors by ones with the code that is on disk now (role admin)",
    reports.ReloadParams, reports.Reloaded, right="admin", target=("group",),
)  # fmt: skip
EXECUTORS_ASSIGN: Final = HubMethod(
    "executors.assign", "Assign a routing key to an executor (role admin)",
    reports.AssignParams, reports.Assigned, right="admin", target=("key", "worker_id", "tenant"),
)  # fmt: skip

# --- tenants ---

TENANTS_CREATE: Final = HubMethod(
    "tenants.create", "Make the record of a tenant (role admin)",
    tenants.TenantCreateParams, tenants.TenantCreated, right="admin", target=("name",),
)  # fmt: skip
TENANTS_LIST: Final = HubMethod(
    "tenants.list", "The records of tenants (role admin)",
    tenants.TenantListParams, tenants.TenantPage, right="admin",
)  # fmt: skip
TENANTS_GET: Final = HubMethod(
    "tenants.get", "The record of a tenant (role admin)",
    tenants.TenantParams, tenants.TenantView, right="admin", target=("name",),
)  # fmt: skip
TENANTS_UPDATE: Final = HubMethod(
    "tenants.update", "Change the record of a tenant, or suspend it (role admin)",
    tenants.TenantUpdateParams, tenants.TenantView, right="admin", target=("name",),
)  # fmt: skip
TENANTS_DELETE: Final = HubMethod(
    "tenants.delete", "Remove the record of a tenant, with purge all that it has (role admin)",
    tenants.TenantDeleteParams, tenants.TenantDeleted, right="admin", idempotent=False, target=("name",),
)  # fmt: skip

TENANTS_USAGE: Final = HubMethod(
    "tenants.usage", "What a tenant used, by day, and stores (role admin)",
    tenants.TenantUsageParams, tenants.TenantUsageReport, right="admin", target=("tenant",),
)  # fmt: skip

# --- configuration ---

CONFIG_GET: Final = HubMethod(
    "config.get", "The settings of the hub, secrets masked, and where each value comes from (role admin)",
    reports.NoParams, admin.ConfigReport, right="admin",
)  # fmt: skip
CONFIG_VALIDATE: Final = HubMethod(
    "config.validate", "Check settings without changing any: all errors at once, by path (role admin)",
    admin.ConfigParams, admin.ValidationResult, right="admin", target=("config",),
)  # fmt: skip
CONFIG_UPDATE: Final = HubMethod(
    "config.update", "Change settings of the running hub, all of them or none; not written to the file (role admin)",
    admin.ConfigParams, admin.ConfigChanged, right="admin", target=("config",),
)  # fmt: skip
CONFIG_RELOAD: Final = HubMethod(
    "config.reload", "Read the settings file again, and change what is new in it, all or nothing (role admin)",
    reports.NoParams, admin.ConfigChanged, right="admin",
)  # fmt: skip

# --- pipelines ---

PIPELINE_INITIALIZE: Final = HubMethod(
    "pipeline.initialize", "Check a technique and its configuration, and keep them under an id for rag.*",
    admin.PipelineInitializeParams, str, idempotent=False, target=("technique",),
)  # fmt: skip
PIPELINE_LIST: Final = HubMethod(
    "pipeline.list", "The ids of the caller's pipelines (role admin: of everybody's)",
    reports.NoParams, list[str],
)  # fmt: skip
PIPELINE_GET: Final = HubMethod(
    "pipeline.get", "Technique and configuration of a pipeline",
    admin.PipelineParams, admin.Pipeline, target=("pipeline_id",),
)  # fmt: skip
PIPELINE_DESTROY: Final = HubMethod(
    "pipeline.destroy", "Forget a pipeline; calls that use it go on",
    admin.PipelineParams, admin.DestroyedPipeline, target=("pipeline_id",),
)  # fmt: skip

CACHE_CLEAR: Final = HubMethod(
    "cache.clear", "Empty a cache, or all of them, in every executor (role admin)",
    admin.ClearCacheParams, admin.ClearedCaches, right="admin", target=("cache_type",),
)  # fmt: skip

# --- jobs ---

JOBS_CREATE: Final = HubMethod(
    "jobs.create", "Run an idempotent method as a durable job, which outlives its caller, its executor and the hub",
    said.JobCreateParams, said.JobView, idempotent=False, target=("method",),
)  # fmt: skip
JOBS_GET: Final = HubMethod(
    "jobs.get", "A job and its result",
    said.JobParams, said.JobWithResult, target=("id",),
)  # fmt: skip
JOBS_LIST: Final = HubMethod(
    "jobs.list", "Jobs of the caller, the newest first (role admin: of everybody)",
    said.JobListParams, said.JobPage,
)  # fmt: skip
JOBS_CANCEL: Final = HubMethod(
    "jobs.cancel", "Cancel a job that has not ended",
    said.JobParams, said.CancelledJob, target=("id",),
)  # fmt: skip

# --- conversations ---

CONVERSATIONS_CREATE: Final = HubMethod(
    "conversations.create", "Make a conversation, whose questions and answers rag.* keeps on disk",
    talks.ConversationCreateParams, talks.ConversationView, idempotent=False,
)  # fmt: skip
CONVERSATIONS_GET: Final = HubMethod(
    "conversations.get", "A conversation with its questions and answers",
    talks.ConversationParams, talks.ConversationWithTurns, target=("conversation_id",),
)  # fmt: skip
CONVERSATIONS_LIST: Final = HubMethod(
    "conversations.list", "Conversations of the caller, those made last first",
    talks.ConversationListParams, talks.ConversationPage,
)  # fmt: skip
CONVERSATIONS_APPEND: Final = HubMethod(
    "conversations.append", "Put a question behind a conversation, as rag.* does; it is open until it is answered",
    talks.ConversationAppendParams, talks.Appended, idempotent=False, target=("conversation_id",),
)  # fmt: skip
CONVERSATIONS_ANSWER: Final = HubMethod(
    "conversations.answer", "Keep what became of an open turn",
    talks.ConversationAnswerParams, talks.Turn, idempotent=False, target=("conversation_id",),
)  # fmt: skip
CONVERSATIONS_EXPORT: Final = HubMethod(
    "conversations.export", "Everything that conversations keep of the caller, as JSON Lines, a page at a time",
    talks.ConversationExportParams, talks.ExportedConversations, target=("principal", "tenant"),
)  # fmt: skip
CONVERSATIONS_DELETE: Final = HubMethod(
    "conversations.delete", "Delete a conversation, or all of the caller (role admin: of a principal)",
    talks.WhoseParams, talks.DeletedConversations, target=("conversation_id", "principal", "tenant"),
)  # fmt: skip
RAG_FEEDBACK: Final = HubMethod(
    "rag.feedback", "Rate an answer of a conversation",
    talks.FeedbackParams, talks.Turn, target=("answer_id", "conversation_id"),
)  # fmt: skip
RAG_UNANSWERED: Final = HubMethod(
    "rag.unanswered", "Questions of conversations without a good answer, and counts by day",
    talks.UnansweredParams, talks.Unanswered, target=("tenant",),
)  # fmt: skip

METHODS: Final[dict[str, HubMethod[Any, Any]]] = {
    row.name: row for row in tuple(globals().values()) if isinstance(row, HubMethod)
}
"""By name: every constant above."""

# --- notifications ---

STREAM_CHUNK: Final = HubNotification(
    "stream_chunk", "One chunk of a stream, before its reply",
    said.ChunkParams, from_client="callee", refers_to="request_id",
)  # fmt: skip
STREAM_CREDIT: Final = HubNotification(
    "stream.credit", "How many chunks, or items of input, were consumed so far",
    StreamCredit, from_client="caller", refers_to="request_id",
)  # fmt: skip
STREAM_PUSH: Final = HubNotification(
    "stream.push", "One item of a call's input, or its end",
    StreamPush, from_client="caller", from_hub=False, refers_to="request_id",
)  # fmt: skip
PROGRESS: Final = HubNotification(
    "$/progress", "Progress of a call whose metadata has a progress_token",
    said.ProgressParams, from_client="callee", refers_to="token",
)  # fmt: skip
CANCEL_REQUEST: Final = HubNotification(
    "$/cancelRequest", "Cancel a call",
    said.CancelRequestParams, from_client="caller", refers_to="id",
)  # fmt: skip
CANCELLED: Final = HubNotification(
    "notifications/cancelled", "Cancel a call, as MCP defines it: without a reply",
    said.CancelledParams, from_client="caller", from_hub=False, refers_to="requestId",
)  # fmt: skip
SESSION_ACK: Final = HubNotification(
    "session.ack", "Acknowledge numbered frames",
    SessionAck, from_client="peer", numbered=False, in_batch=False,
)  # fmt: skip
EVENT: Final = HubNotification(
    "event", "An event of a subscribed topic",
    said.EventParams, numbered=False,
)  # fmt: skip
EVENT_GAP: Final = HubNotification(
    "event.gap", "Events of a subscribed topic that are not delivered",
    said.GapParams, numbered=False,
)  # fmt: skip

NOTIFICATIONS: Final[dict[str, HubNotification]] = {
    row.name: row for row in tuple(globals().values()) if isinstance(row, HubNotification)
}
"""By name: every constant above."""

# --- what follows from the table ---

BEFORE_AUTH: Final = frozenset(row.name for row in METHODS.values() if row.before_auth)
NOT_IN_BATCH: Final = frozenset(
    {row.name for row in METHODS.values() if not row.in_batch}
    | {row.name for row in NOTIFICATIONS.values() if not row.in_batch}
)
CONNECTION_METHODS: Final = frozenset(row.name for row in METHODS.values() if row.needs_connection)
UNNUMBERED_CALLS: Final = frozenset(row.name for row in METHODS.values() if not row.numbered)


def about_calls(side: Literal["caller", "callee"]) -> dict[str, str]:
    """The notifications that a client sends about calls that it makes or serves; each with its param for the id."""
    about = [row for row in NOTIFICATIONS.values() if row.from_client == side]
    return {row.name: row.refers_to for row in about if row.refers_to is not None}


NAMESPACES: Final = ("rpc.", "session.", "stream.", "system.", "$/")
"""Beginnings of names that are reserved for the hub, whether it has such a method today or not."""


def reserved(name: str) -> str | None:
    """Why nobody but the hub can serve a method of this name, in words; None for a free name."""
    if name in METHODS:
        return f"{name} is a method of the hub itself"
    if name in NOTIFICATIONS:
        return f"{name} is a notification of the wire protocol"
    space = next((space for space in NAMESPACES if name.startswith(space)), None)
    return None if space is None else f"{name} begins with {space}, which is reserved for the hub"
