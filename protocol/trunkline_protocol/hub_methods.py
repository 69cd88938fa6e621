"""The table of what a hub answers itself: its methods and the notifications of the wire contract. Pure.

Whoever has to know one of these names, or a rule about them, reads it here: dispatch and doors of the hub, its
documents, clients, codecs, the generator of typed clients, executors when they load modules, and the tables of SPEC.md
(``scripts/write_hub_methods.py``). Handlers are bound to the rows in the hub (``hub/dispatch.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from trunkline_protocol import hub_messages as said
from trunkline_protocol import reports
from trunkline_protocol.messages import StreamCredit, StreamPush
from trunkline_protocol.session import SessionAck, SessionClose, SessionOpen, SessionOpened

P = TypeVar("P", bound=msgspec.Struct)

Right = Literal["anybody", "granted", "subscribe", "publish", "callee", "admin"]
"""Who may call a method.

``anybody``: whoever is in, whatever its patterns say: to say who one is, to ask what is here and whether it lives, to
give up what one has. ``granted``: whom the patterns of methods allow it. ``subscribe``, ``publish``: also whoever has
patterns of topics for that; the topic has to be one of them. ``callee``, ``admin``: takes the role, beside being
granted.
"""

Scope = Literal["hub", "connection", "handshake"]
"""What a method is about.

``connection`` and ``handshake`` need a connection that stays, and an id: they are refused over HTTP, by methods and as
notifications. ``handshake``: who the peer is, and which session it goes on with; whoever relays a connection says that
itself.
"""


@dataclass(frozen=True, slots=True)
class HubMethod(Generic[P]):
    """A method that the hub answers itself. No client and no executor can serve a method of that name.

    Attributes:
        summary: one line for ``rpc.discover``.
        params: what they are decoded as.
        result: what its answer is, as a type for :func:`msgspec.json.schema`.
        idempotent: calling it twice is the same as once.
        in_batch: whether it may be a member of a batch; not where its reply has to come at an exact point of the wire.
        before_auth: whether it may be called before the peer has said who it is.
        numbered: whether it and its reply are numbered in a session; not where after a cut neither is of use to the
            next connection.
        listed: whether ``rpc.discover`` has it.
    """

    name: str
    summary: str
    params: type[P]
    result: type[Any]
    right: Right = "granted"
    scope: Scope = "hub"
    idempotent: bool = True
    in_batch: bool = True
    before_auth: bool = False
    numbered: bool = True
    listed: bool = True

    @property
    def needs_connection(self) -> bool:
        """Whether it takes a connection that stays, and an id."""
        return self.scope != "hub"

    @property
    def is_clients_own(self) -> bool:
        """Whether clients have a function for it: called by hand it would act behind their back."""
        return self.needs_connection or self.right == "publish"

    @property
    def is_tool(self) -> bool:
        """Whether MCP clients get it as a tool: what takes no role, no topics and no connection."""
        return not self.needs_connection and self.right in ("anybody", "granted")


@dataclass(frozen=True, slots=True)
class HubNotification:
    """A notification that reaches no method. As a request it is unknown (-32601).

    Attributes:
        summary: one line for ``/asyncapi.json``.
        params: what they are; they may be read more leniently.
        from_client: as what a client may send it: the ``caller`` of a call, the ``callee`` of one that it serves, or
            as the ``peer`` of a session; None where only the hub does.
        from_hub: whether the hub sends it.
        refers_to: the param that names the call it is about.
        numbered: whether it is numbered in a session.
        in_batch: whether its name may stand in a batch, with an id.
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
)  # fmt: skip
UNSUBSCRIBE: Final = HubMethod(
    "unsubscribe", "Unsubscribe this connection from a topic or pattern",
    said.UnsubscribeParams, said.Unsubscribed, right="anybody", scope="connection", in_batch=False, numbered=False,
)  # fmt: skip
PUBLISH: Final = HubMethod(
    "publish", "Publish an event to a topic: store it and deliver it to the subscribers",
    said.PublishParams, said.Published, right="publish", idempotent=False,
)  # fmt: skip

# --- methods that clients serve ---

METHOD_REGISTER: Final = HubMethod(
    "method.register", "Register a method that this client serves to others (role callee)",
    said.RegisterParams, said.Registered, right="callee", scope="connection", in_batch=False,
)  # fmt: skip
METHOD_UNREGISTER: Final = HubMethod(
    "method.unregister", "Unregister a method that this client serves",
    said.UnregisterParams, said.Unregistered, scope="connection",
)  # fmt: skip

# --- what the hub says of itself ---

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
    reports.NoParams, reports.Health, right="anybody",
)  # fmt: skip
HEALTH_DETAILED: Final = HubMethod(
    "health.detailed", "Health of the hub and of each executor, with the causes of trouble",
    reports.NoParams, reports.DetailedHealth,
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
    reports.CancelParams, reports.CancelledCall, right="admin",
)  # fmt: skip
SYSTEM_TOPICS: Final = HubMethod(
    "system.topics", "The topics with the latest events, and the subscriptions (role admin)",
    reports.TopicsParams, reports.TopicList, right="admin",
)  # fmt: skip
SYSTEM_FAILURE: Final = HubMethod(
    "system.failure", "The params of a call that failed lately, secrets redacted (role admin)",
    reports.FailureParams, reports.Failure, right="admin",
)  # fmt: skip
EXECUTORS_DRAIN: Final = HubMethod(
    "executors.drain", "Hand over what an executor owns and replace its process (role admin)",
    reports.DrainParams, reports.Drained, right="admin", idempotent=False,
)  # fmt: skip
EXECUTORS_ASSIGN: Final = HubMethod(
    "executors.assign", "Assign a routing key to an executor (role admin)",
    reports.AssignParams, reports.Assigned, right="admin",
)  # fmt: skip

# --- jobs ---

JOBS_CREATE: Final = HubMethod(
    "jobs.create", "Run an idempotent method as a durable job, which outlives its caller, its executor and the hub",
    said.JobCreateParams, said.JobView, idempotent=False,
)  # fmt: skip
JOBS_GET: Final = HubMethod(
    "jobs.get", "A job and its result",
    said.JobParams, said.JobWithResult,
)  # fmt: skip
JOBS_LIST: Final = HubMethod(
    "jobs.list", "Your jobs, the newest first (role admin: everybody's)",
    said.JobListParams, said.JobPage,
)  # fmt: skip
JOBS_CANCEL: Final = HubMethod(
    "jobs.cancel", "Cancel a job that is not over",
    said.JobParams, said.CancelledJob,
)  # fmt: skip

METHODS: Final[dict[str, HubMethod[Any]]] = {
    row.name: row for row in tuple(globals().values()) if isinstance(row, HubMethod)
}
"""By name: every constant above."""

# --- notifications ---

STREAM_CHUNK: Final = HubNotification(
    "stream_chunk", "One chunk of a stream, before its reply",
    said.ChunkParams, from_client="callee", refers_to="request_id",
)  # fmt: skip
STREAM_CREDIT: Final = HubNotification(
    "stream.credit", "How many chunks, or items of input, were taken so far",
    StreamCredit, from_client="caller", refers_to="request_id",
)  # fmt: skip
STREAM_PUSH: Final = HubNotification(
    "stream.push", "One item of a call's input, or its end",
    StreamPush, from_client="caller", from_hub=False, refers_to="request_id",
)  # fmt: skip
PROGRESS: Final = HubNotification(
    "$/progress", "How far a call is, where its metadata has a progress_token",
    said.ProgressParams, from_client="callee", refers_to="token",
)  # fmt: skip
CANCEL_REQUEST: Final = HubNotification(
    "$/cancelRequest", "The outcome of a call is not wanted any more",
    said.CancelRequestParams, from_client="caller", refers_to="id",
)  # fmt: skip
CANCELLED: Final = HubNotification(
    "notifications/cancelled", "The same as MCP has it: the call gets no reply",
    said.CancelledParams, from_client="caller", from_hub=False, refers_to="requestId",
)  # fmt: skip
SESSION_ACK: Final = HubNotification(
    "session.ack", "Which numbered frames have come",
    SessionAck, from_client="peer", numbered=False, in_batch=False,
)  # fmt: skip
EVENT: Final = HubNotification(
    "event", "An event of a topic that was subscribed to",
    said.EventParams, numbered=False,
)  # fmt: skip
EVENT_GAP: Final = HubNotification(
    "event.gap", "Events that are not delivered",
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
    """The notifications that a client sends about its own calls, or those that it serves; and the param for which."""
    about = [row for row in NOTIFICATIONS.values() if row.from_client == side]
    return {row.name: row.refers_to for row in about if row.refers_to is not None}


NAMESPACES: Final = ("rpc.", "session.", "stream.", "system.", "$/")
"""How the names begin that are kept for the hub, whether it has such a method today or not."""


def reserved(name: str) -> str | None:
    """Why nobody but the hub can serve a method of this name, in words; None for a free name."""
    if name in METHODS:
        return f"{name} is a method of the hub itself"
    if name in NOTIFICATIONS:
        return f"{name} is a notification of the wire protocol"
    space = next((space for space in NAMESPACES if name.startswith(space)), None)
    return None if space is None else f"{name} begins with {space}, which is reserved for the hub"
