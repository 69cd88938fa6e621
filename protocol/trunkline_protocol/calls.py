"""A call in flight, as both its origin and whoever executes it see it.

An origin (a client's connection, a method that calls another, the hub itself) subclasses :class:`Call` and
says how outcomes are delivered. A backend runs it. Whatever happens, the first terminal outcome wins and
later ones are discarded: that rule lives here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.inputs import InputWindow
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.request_ids import given_request_id, new_request_id
from trunkline_protocol.traces import TraceContext

NO_DEADLINE = float("inf")
DEFAULT_TIMEOUT_MS: Final = 30_000
"""Of a call that names none, where its method has none of its own."""

PRIORITIES = {"high": 0, "normal": 1, "low": 2}


class CallOwner(Protocol):
    """Keeps deadlines and counts of calls; is notified once when a call ends."""

    def finished(self, call: Call, code: int) -> None:
        """Called once when a call has ended; ``code`` is 0 for success, else the error's code."""


class Caller(Protocol):
    """The principal on whose behalf a call is made, with its rights."""

    @property
    def name(self) -> str:
        """The name of the principal, as people know it in its tenant."""

    @property
    def owner(self) -> str:
        """The key of what belongs to the principal: :func:`trunkline_protocol.tenants.key_in` of tenant and name."""

    @property
    def roles(self) -> frozenset[str]:
        """The roles of the principal, such as ``admin``; which of them grant anything, :meth:`has_role` tells."""

    @property
    def tenant(self) -> str:
        """The tenant of the principal."""

    @property
    def claims(self) -> Mapping[str, Any]:
        """What methods are told of the principal's credentials, beside name, roles and tenant."""

    @property
    def encoded(self) -> bytes:
        """What methods are told of the principal: :func:`trunkline_protocol.principals.encode_principal`."""

    @property
    def methods(self) -> tuple[str, ...] | None:
        """Patterns of the methods that the principal may call; None sets no limit."""

    @property
    def subscribe(self) -> tuple[str, ...] | None:
        """Patterns of the topics that the principal may subscribe to; None sets no limit."""

    @property
    def publish(self) -> tuple[str, ...] | None:
        """Patterns of the topics that the principal may publish to; None sets no limit."""

    @property
    def collections(self) -> tuple[str, ...] | None:
        """Patterns of the collections that the principal may use; None sets no limit."""

    @property
    def acting(self) -> str:
        """The method whose own rights these are; empty where they are the principal's."""

    @property
    def actor(self) -> str:
        """The gateway that acts as the principal; empty where it calls itself."""

    def has_role(self, role: str) -> bool:
        """Whether the principal has what a role grants."""

    def may_call(self, method: str) -> bool:
        """Whether the principal may call a method."""

    def may_publish(self, topic: str) -> bool:
        """Whether the principal may publish to a valid topic."""

    def may_subscribe(self, pattern: str) -> bool:
        """Whether the principal may subscribe to everything that a valid topic or pattern covers."""

    def require_collection(self, collection: str) -> None:
        """Refuse (6002) a collection that the principal may not use, also where a method acts with its own rights."""

    def as_method(self, method: str) -> Caller:
        """The same principal with the rights of a method declared ``runs_as="method"``, and its own collections."""


class CallExecution(Protocol):
    """What a call's origin may ask of its execution: to cancel it, to take credit, to take input."""

    def cancel(self, call: Call) -> None:
        """Cancel a call. Unknown or finished calls are ignored."""

    def grant(self, call: Call, consumed: int) -> None:
        """Give credit: the stream's reader has consumed ``consumed`` items in total, so that repeats are harmless."""

    def push(self, call: Call, index: int, data: bytes, final: bool) -> None:
        """Pass on one item of a call's input (JSON), or its end, which carries none. Settled calls are ignored.

        Raises:
            RpcError: the method takes no input, or :class:`trunkline_protocol.inputs.InputWindow` does not allow
                this item. The call cannot go on: whoever pushed settles it with this error and cancels it.
        """


class CallSubmission(CallExecution, Protocol):
    """Executes calls that have been routed."""

    def submit(self, call: Call) -> None:
        """Accept a call, which gets its outcome from here, perhaps before this returns.

        Raises:
            RpcError: the call is refused, and nothing of it was executed.
        """


class CallBackend(CallSubmission, Protocol):
    """Executes calls of methods that are everybody's: the pool of executors."""

    def find(self, method: str) -> MethodInfo:
        """The catalogue entry of a method.

        Raises:
            RpcError: -32601, or 1001 while it cannot be known yet.
        """


class TenantBackend(CallSubmission, Protocol):
    """Executes the calls of all tenants, of which each may have methods of its own."""

    def find_for(self, call: Call) -> MethodInfo:
        """The catalogue entry of a call's method, as its caller knows it. Its name is the key of the method.

        Raises:
            RpcError: -32601, or 1001 while it cannot be known yet.
        """

    def find_in(self, tenant: str, method: str) -> MethodInfo:
        """The same of a method that a principal of this tenant names."""

    def serves(self, method: str) -> bool:
        """Whether clients of any tenant serve a method of this name."""


class Call:
    """One call in flight.

    Attributes:
        params: JSON bytes, untouched from the caller.
        metadata: JSON bytes of ``metadata``, or empty.
        deadline: absolute, on the host's monotonic clock, in seconds.
        idle_timeout: for streams, the longest silence in seconds; 0 for plain calls.
        priority: 0 high, 1 normal, 2 low.
        flow: whose call it is: calls of one flow wait behind each other, flows take turns. 0 is the hub itself.
        depth: how many methods called each other down to this one.
        chunks: how many chunks were delivered so far.
        last_activity: when the executor last sent something for this call, on the same clock.
        window: items of a stream that its reader takes ahead of its own credit; 0 where it gives none.
        attempts: how many executors this call was dispatched to so far.
        info: the method's catalogue entry, set when the call is routed.
        input: what was pushed to it so far; None before the first item.
        waited: seconds in the queue so far, 0 where it did not wait.
        ran: seconds in its executor, as that says; 0 before the outcome, and where it got to none.
        bytes_out: of its result and its chunks, so far.
        trace: its span's place in a trace; None where it has none.
        failure: code and text of the error that ended it; None where it was abandoned. Only calls that did not end well
            have it. Not the error, whose traceback has the call: what is not a cycle is freed at once.
        number: given to it when somebody first looks at what is in flight; 0 before.
        tick: where its deadline is watched; 0 where none is.
        slot: of its routing key. Only calls of methods that have one get it, when they are routed.
        made_id: the request id that the hub made for it. Only calls that somebody writes about, and that came without
            one, get it.
    """

    slot: int
    made_id: str
    failure: tuple[int, str] | None

    vetted = False
    """Whether the origin has checked that the principal may make this call. The router checks all others."""

    __slots__ = (
        "attempts",
        "backend",
        "bytes_out",
        "chunks",
        "deadline",
        "depth",
        "executor",
        "failure",
        "flow",
        "idle_timeout",
        "info",
        "input",
        "key",
        "last_activity",
        "made_id",
        "metadata",
        "method",
        "number",
        "owner",
        "params",
        "priority",
        "progress_token",
        "ran",
        "received",
        "settled",
        "slot",
        "tick",
        "trace",
        "waited",
        "window",
    )

    def __init__(self, method: str, params: bytes, metadata: bytes = b"", *, priority: int = 1, depth: int = 0) -> None:
        self.method = method
        self.params = params
        self.metadata = metadata
        self.priority = priority
        self.depth = depth
        self.flow = 0
        self.window = 0
        self.deadline = NO_DEADLINE
        self.tick = 0
        self.idle_timeout = 0.0
        self.received = 0.0
        self.last_activity = 0.0
        self.chunks = 0
        self.attempts = 0
        self.settled = False
        self.owner: CallOwner | None = None
        self.backend: CallExecution | None = None
        self.info: MethodInfo | None = None
        self.input: InputWindow | None = None
        self.progress_token: str | int | None = None
        self.executor: object | None = None
        self.key = 0
        self.number = 0
        self.waited = 0.0
        self.ran = 0.0
        self.bytes_out = 0
        self.trace: TraceContext | None = None

    @property
    def maybe_executed(self) -> bool:
        """Whether the work may have begun: an executor has it, or had it when it died."""
        return self.executor is not None or self.attempts > 0

    def settle_result(self, result: bytes) -> None:
        """End the call with its result (JSON)."""
        self.bytes_out += len(result)
        if self._settle(0):
            self.deliver_result(result)

    def settle_error(self, error: RpcError) -> None:
        """End the call with a typed error."""
        if not self.settled:
            self.failure = error.code, error.message
        if self._settle(error.code):
            if self.chunks:
                error.data.setdefault("chunks", self.chunks)
            if self.trace is not None:
                error.data.setdefault("trace_id", self.trace.trace_id)
            if (request_id := self.known_request_id()) is not None:
                error.data.setdefault("request_id", request_id)
            self.deliver_error(error)

    def abandon(self) -> None:
        """End the call without delivering an outcome, for its caller is gone. Its execution is cancelled."""
        if not self.settled:
            self.failure = None
        if self._settle(ErrorCode.CANCELLED):
            self.cancel_execution()

    def cancel_execution(self) -> None:
        """Cancel the execution of a call that has been routed; that alone does not settle it."""
        if self.backend is not None:
            self.backend.cancel(self)

    def stream(self, chunk_type: bytes, data: bytes) -> None:
        """Deliver one chunk, unless the call is settled: its type as a JSON string, its data as JSON."""
        if not self.settled:
            self.deliver_chunk(chunk_type, data)
            self.chunks += 1
            self.bytes_out += len(data)

    def progress(self, value: bytes) -> None:
        """Deliver a progress report (JSON), unless the call is settled."""
        if not self.settled:
            self.deliver_progress(value)

    def _settle(self, code: int) -> bool:
        if self.settled:
            return False
        self.settled = True
        if self.owner is not None:
            self.owner.finished(self, code)
        return True

    def deliver_result(self, result: bytes) -> None:
        """Hand the result to the origin. Called at most once."""
        raise NotImplementedError

    def deliver_error(self, error: RpcError) -> None:
        """Hand the error to the origin. Called at most once, never after a result."""
        raise NotImplementedError

    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        """Hand one chunk to the origin, which gives credit when its reader has consumed it."""
        raise NotImplementedError

    def deliver_progress(self, value: bytes) -> None:
        """Hand a progress report to the origin, which ignores it where it asked for none."""

    def writable(self) -> bool:
        """Whether the origin takes chunks now. A stream that waits for its reader is not idle."""
        return True

    def input_consumed(self, consumed: int) -> None:
        """Note that the method has consumed ``consumed`` items of its input in total. By default that is ignored."""

    def caller(self) -> Caller | None:
        """The principal of the call, with its rights; None is the hub itself, which may do everything.

        It is that of the outermost call, through however many methods, unless one of them runs with its own rights.
        """
        raise NotImplementedError

    @property
    def tenant(self) -> str:
        """The tenant that the call is made for."""
        caller = self.caller()
        return DEFAULT_TENANT if caller is None else caller.tenant

    @property
    def outer_method(self) -> str:
        """The method that makes this call; empty where none does."""
        return ""

    def origin(self) -> Call:
        """The outermost call that this one is made for: the call itself, where no method made it."""
        return self

    def request_id(self) -> str:
        """The id under which logs, audit and errors name the call: its caller's, or one that is made now, and kept.

        Calls that methods make have the id of the outermost call, unless their metadata has another.
        """
        known = self.known_request_id()
        if known is None:
            known = self.origin().made_id = new_request_id()
        return known

    def known_request_id(self) -> str | None:
        """The call's request id, where its caller gave one or the hub has made it; None otherwise."""
        origin = self.origin()
        given = given_request_id(self.metadata) or given_request_id(origin.metadata)
        return given or getattr(origin, "made_id", None)

    def key_scope(self) -> str | None:
        """The owner of the idempotency keys that the call's key is one of. None: a key in its metadata is ignored."""
        return None
