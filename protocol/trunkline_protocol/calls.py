"""A call in flight, as its origin and its executor both see it.

An origin (a client's connection, a method that calls another, the hub itself) subclasses :class:`Call` and
says how outcomes are delivered. A backend runs it. Whatever happens, the first terminal outcome wins and
later ones are discarded: that rule lives here and nowhere else.
"""

from __future__ import annotations

from typing import Final, Protocol

from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.inputs import InputWindow
from trunkline_protocol.traces import TraceContext

NO_DEADLINE = float("inf")
DEFAULT_TIMEOUT_MS: Final = 30_000
"""Of a call that names none, where its method has none of its own."""

PRIORITIES = {"high": 0, "normal": 1, "low": 2}


class CallOwner(Protocol):
    """Whoever keeps the books of calls (deadlines, counts): told once when a call ends."""

    def finished(self, call: Call, code: int) -> None:
        """``code`` is 0 for success, else the error's code."""


class Caller(Protocol):
    """A peer that has proved who it is."""

    @property
    def name(self) -> str:
        """Whose jobs and idempotency keys these are."""

    @property
    def roles(self) -> frozenset[str]:
        """What it may do beyond calling."""

    @property
    def methods(self) -> tuple[str, ...] | None:
        """Patterns of what it may call; None sets no limit."""

    @property
    def subscribe(self) -> tuple[str, ...] | None:
        """Patterns of the topics it may subscribe to; None sets no limit."""

    @property
    def publish(self) -> tuple[str, ...] | None:
        """Patterns of the topics it may publish to; None sets no limit."""

    @property
    def acting(self) -> str:
        """The method whose own rights these are; empty where they are the caller's."""

    def may_call(self, method: str) -> bool:
        """Whether it may call a method."""

    def may_publish(self, topic: str) -> bool:
        """Whether it may publish to a valid topic."""

    def as_method(self, method: str) -> Caller:
        """The same peer with the rights of a method that is declared to run with its own."""


class CallExecution(Protocol):
    """What runs a call, as far as the call's origin may still ask something of it."""

    def cancel(self, call: Call) -> None:
        """The call's outcome is no longer wanted. Unknown or finished calls are ignored."""

    def grant(self, call: Call, consumed: int) -> None:
        """The stream's reader has taken ``consumed`` items in total (absolute, so repeats are harmless)."""

    def push(self, call: Call, index: int, data: bytes, final: bool) -> None:
        """Pass on one item of the call's input: JSON, or the end, which carries none. Settled calls are ignored.

        Raises:
            RpcError: the method takes no input, or :class:`trunkline_protocol.inputs.InputWindow` does not allow
                this item. The call cannot go on: whoever pushed settles it with this error and cancels it.
        """


class CallBackend(CallExecution, Protocol):
    """Whoever executes calls."""

    def find(self, method: str) -> MethodInfo:
        """Look a method up.

        Raises:
            RpcError: -32601, or 1001 while it cannot be known yet.
        """

    def submit(self, call: Call) -> None:
        """Take the call: it is settled sooner or later, perhaps before this returns.

        Raises:
            RpcError: it is refused, and nothing of it was executed.
        """


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
        number: given to it when somebody first looks at what is in flight; 0 before.
        slot: of its routing key. Only calls of methods that have one get it, when they are routed.
    """

    slot: int

    vetted = False
    """Whether its origin has asked already if the caller may make it. The router asks for all others."""

    __slots__ = (
        "attempts",
        "backend",
        "bytes_out",
        "chunks",
        "deadline",
        "depth",
        "executor",
        "flow",
        "idle_timeout",
        "info",
        "input",
        "key",
        "last_activity",
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
        """End with success; ``result`` is JSON."""
        self.bytes_out += len(result)
        if self._settle(0):
            self.deliver_result(result)

    def settle_error(self, error: RpcError) -> None:
        """End with a typed error."""
        if self._settle(error.code):
            if self.chunks:
                error.data.setdefault("chunks", self.chunks)
            if self.trace is not None:
                error.data.setdefault("trace_id", self.trace.trace_id)
            self.deliver_error(error)

    def abandon(self) -> None:
        """End without telling anyone: the caller is gone. Work that still runs is cancelled."""
        if self._settle(ErrorCode.CANCELLED):
            self.cancel_execution()

    def cancel_execution(self) -> None:
        """Tell whoever executes the call that its outcome is not wanted."""
        if self.backend is not None:
            self.backend.cancel(self)

    def stream(self, chunk_type: bytes, data: bytes) -> None:
        """Pass on one chunk: its type as a JSON string, its data as JSON."""
        if not self.settled:
            self.deliver_chunk(chunk_type, data)
            self.chunks += 1
            self.bytes_out += len(data)

    def progress(self, value: bytes) -> None:
        """Pass on a progress report (JSON)."""
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
        """Hand on one chunk, and grant credit for it when it has been taken."""
        raise NotImplementedError

    def deliver_progress(self, value: bytes) -> None:
        """Hand on a progress report; origins that did not ask for any ignore it."""

    def writable(self) -> bool:
        """Whether the origin takes chunks now. A stream that waits for its reader is not idle."""
        return True

    def input_consumed(self, consumed: int) -> None:
        """The method has taken ``consumed`` items of its input in total; origins that pushed none ignore it."""

    def caller(self) -> Caller | None:
        """On whose behalf it is made, and with whose rights; None is the hub itself, which may do everything.

        The principal of the outermost call, through however many methods, unless one of them runs with its own rights.
        """
        raise NotImplementedError

    @property
    def outer_method(self) -> str:
        """The method that makes this call; empty where none does."""
        return ""

    def origin(self) -> Call:
        """The outermost call that this one is made for; itself, where no method made it."""
        return self

    def key_scope(self) -> str | None:
        """Whose idempotency keys this call's belongs to. None: its key, which may be its caller's, means nothing."""
        return None
