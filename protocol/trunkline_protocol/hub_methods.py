"""The table of what a hub answers itself: its methods and the notifications of the wire contract. Pure.

Whoever has to know one of these names, or a rule about them, reads it here: dispatch and doors of the hub, its
documents, clients, codecs, the generator of typed clients, executors when they load modules, and the tables of SPEC.md
(``scripts/spec_tables.py``). Handlers are bound to the rows in the hub (``hub/dispatch.py``).
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


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
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
    name="auth",
    summary="Authenticate, or renew credentials before they expire",
    params=said.AuthParams,
    result=said.Authenticated,
    right="anybody",
    scope="handshake",
    in_batch=False,
    before_auth=True,
    numbered=False,
)
SESSION_OPEN: Final = HubMethod(
    name="session.open",
    summary="Open a session, or resume one after a cut",
    params=SessionOpen,
    result=SessionOpened,
    right="anybody",
    scope="handshake",
    idempotent=False,
    in_batch=False,
    numbered=False,
    listed=False,
)
SESSION_CLOSE: Final = HubMethod(
    name="session.close",
    summary="End the session, with its calls, and close the connection",
    params=SessionClose,
    result=SessionClose,
    right="anybody",
    scope="handshake",
    in_batch=False,
    numbered=False,
    listed=False,
)

# --- publish and subscribe ---

SUBSCRIBE: Final = HubMethod(
    name="subscribe",
    summary="Subscribe this connection to a topic or pattern",
    params=said.SubscribeParams,
    result=said.Subscribed,
    right="subscribe",
    scope="connection",
    in_batch=False,
    numbered=False,
)
UNSUBSCRIBE: Final = HubMethod(
    name="unsubscribe",
    summary="Unsubscribe this connection from a topic or pattern",
    params=said.UnsubscribeParams,
    result=said.Unsubscribed,
    right="anybody",
    scope="connection",
    in_batch=False,
    numbered=False,
)
PUBLISH: Final = HubMethod(
    name="publish",
    summary="Publish an event to a topic: store it and deliver it to the subscribers",
    params=said.PublishParams,
    result=said.Published,
    right="publish",
    idempotent=False,
)

# --- methods that clients serve ---

METHOD_REGISTER: Final = HubMethod(
    name="method.register",
    summary="Register a method that this client serves to others (role callee)",
    params=said.RegisterParams,
    result=said.Registered,
    right="callee",
    scope="connection",
    in_batch=False,
)
METHOD_UNREGISTER: Final = HubMethod(
    name="method.unregister",
    summary="Unregister a method that this client serves",
    params=said.UnregisterParams,
    result=said.Unregistered,
    scope="connection",
)

# --- what the hub says of itself ---

RPC_PING: Final = HubMethod(
    name="rpc.ping",
    summary="Answer at once, for clients that cannot send WebSocket pings",
    params=reports.NoParams,
    result=reports.Pong,
    right="anybody",
    numbered=False,
)
RPC_DISCOVER: Final = HubMethod(
    name="rpc.discover",
    summary="The methods that can be called, as an OpenRPC document",
    params=reports.NoParams,
    result=reports.OpenRpcDocument,
    right="anybody",
)
HEALTH_CHECK: Final = HubMethod(
    name="health.check",
    summary="Health of the hub",
    params=reports.NoParams,
    result=reports.Health,
    right="anybody",
)
HEALTH_DETAILED: Final = HubMethod(
    name="health.detailed",
    summary="Health of the hub and of each executor, with the causes of trouble",
    params=reports.NoParams,
    result=reports.DetailedHealth,
)
SYSTEM_INFO: Final = HubMethod(
    name="system.info",
    summary="Versions, machine and executor pool",
    params=reports.NoParams,
    result=reports.SystemInfo,
)
METRICS_GET: Final = HubMethod(
    name="metrics.get",
    summary="Call counts and latencies by method, since the start or of a time range",
    params=reports.MetricsParams,
    result=reports.Metrics,
)

# --- for operators ---

SYSTEM_CALLS: Final = HubMethod(
    name="system.calls",
    summary="The calls in flight, the oldest first (role admin)",
    params=reports.CallsParams,
    result=reports.CallList,
    right="admin",
)
SYSTEM_CANCEL: Final = HubMethod(
    name="system.cancel",
    summary="Cancel a call in flight, whoever made it (role admin)",
    params=reports.CancelParams,
    result=reports.CancelledCall,
    right="admin",
)
SYSTEM_TOPICS: Final = HubMethod(
    name="system.topics",
    summary="The topics with the latest events, and the subscriptions (role admin)",
    params=reports.TopicsParams,
    result=reports.TopicList,
    right="admin",
)
SYSTEM_FAILURE: Final = HubMethod(
    name="system.failure",
    summary="The params of a call that failed lately, secrets redacted (role admin)",
    params=reports.FailureParams,
    result=reports.Failure,
    right="admin",
)
EXECUTORS_DRAIN: Final = HubMethod(
    name="executors.drain",
    summary="Hand over what an executor owns and replace its process (role admin)",
    params=reports.DrainParams,
    result=reports.Drained,
    right="admin",
    idempotent=False,
)
EXECUTORS_ASSIGN: Final = HubMethod(
    name="executors.assign",
    summary="Assign a routing key to an executor (role admin)",
    params=reports.AssignParams,
    result=reports.Assigned,
    right="admin",
)

# --- jobs ---

JOBS_CREATE: Final = HubMethod(
    name="jobs.create",
    summary="Run an idempotent method as a durable job, which outlives its caller, its executor and the hub",
    params=said.JobCreateParams,
    result=said.JobView,
    idempotent=False,
)
JOBS_GET: Final = HubMethod(
    name="jobs.get", summary="A job and its result", params=said.JobParams, result=said.JobWithResult
)
JOBS_LIST: Final = HubMethod(
    name="jobs.list",
    summary="Your jobs, the newest first (role admin: everybody's)",
    params=said.JobListParams,
    result=said.JobPage,
)
JOBS_CANCEL: Final = HubMethod(
    name="jobs.cancel", summary="Cancel a job that is not over", params=said.JobParams, result=said.CancelledJob
)

METHODS: Final[dict[str, HubMethod[Any]]] = {
    row.name: row for row in tuple(globals().values()) if isinstance(row, HubMethod)
}
"""By name: every constant above."""

# --- notifications ---

STREAM_CHUNK: Final = HubNotification(
    name="stream_chunk",
    summary="One chunk of a stream, before its reply",
    params=said.ChunkParams,
    from_client="callee",
    refers_to="request_id",
)
STREAM_CREDIT: Final = HubNotification(
    name="stream.credit",
    summary="How many chunks, or items of input, were taken so far",
    params=StreamCredit,
    from_client="caller",
    refers_to="request_id",
)
STREAM_PUSH: Final = HubNotification(
    name="stream.push",
    summary="One item of a call's input, or its end",
    params=StreamPush,
    from_client="caller",
    from_hub=False,
    refers_to="request_id",
)
PROGRESS: Final = HubNotification(
    name="$/progress",
    summary="How far a call is, where its metadata has a progress_token",
    params=said.ProgressParams,
    from_client="callee",
    refers_to="token",
)
CANCEL_REQUEST: Final = HubNotification(
    name="$/cancelRequest",
    summary="The outcome of a call is not wanted any more",
    params=said.CancelRequestParams,
    from_client="caller",
    refers_to="id",
)
CANCELLED: Final = HubNotification(
    name="notifications/cancelled",
    summary="The same as MCP has it: the call gets no reply",
    params=said.CancelledParams,
    from_client="caller",
    from_hub=False,
    refers_to="requestId",
)
SESSION_ACK: Final = HubNotification(
    name="session.ack",
    summary="Which numbered frames have come",
    params=SessionAck,
    from_client="peer",
    numbered=False,
    in_batch=False,
)
EVENT: Final = HubNotification(
    name="event",
    summary="An event of a topic that was subscribed to",
    params=said.EventParams,
    numbered=False,
)
EVENT_GAP: Final = HubNotification(
    name="event.gap", summary="Events that are not delivered", params=said.GapParams, numbered=False
)

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
UNNUMBERED_NOTIFICATIONS: Final = frozenset(row.name for row in NOTIFICATIONS.values() if not row.numbered)


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
