"""The context of a running call: what its method knows of the call, and what it can do beside returning."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import CALLERS_OWN, Window
from trunkline_protocol.principals import Principal, decode_principal


@dataclass(frozen=True, slots=True)
class Chunk:
    """One item of a stream with a type of its own; plain values are sent with type ``data``."""

    type: str
    data: Any


class Host(Protocol):
    """The services that a context needs of whoever runs the method: an executor process, or a test."""

    async def call(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> Any:
        """Call another method through the hub."""

    def stream(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> AsyncIterator[Chunk]:
        """Stream from another method through the hub."""

    def progress(self, context: Context, value: Any) -> None:
        """Report progress. Any thread may call this."""

    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a plain function on the executor's one thread."""


class Context:
    """Injected into methods that have a parameter annotated ``Context``.

    Attributes:
        method: the name this call came by.
        metadata: the caller's ``metadata`` object.
        depth: how many methods called each other down to this one; beyond 8 the hub refuses.
        worker_id: the executor that runs this call.
    """

    def __init__(
        self,
        host: Host,
        call_id: int,
        method: str,
        metadata: bytes,
        deadline: float,
        depth: int,
        worker_id: str,
        principal: bytes,
    ) -> None:
        self._host = host
        self._metadata = metadata
        self._deadline = deadline
        self._principal = principal
        self.call_id = call_id
        self.method = method
        self.depth = depth
        self.worker_id = worker_id
        self.result: Any = None
        self._cancelled = False

    @property
    def window(self) -> Window | None:
        """The window of this call's stream, where the caller gave one; else None."""
        return decode_metadata(self._metadata).window if self._metadata else None

    @property
    def principal(self) -> Principal:
        """Who calls: the principal of the outermost call, through however many methods and jobs.

        The hub sets it, and nothing that a client says changes it: :attr:`metadata` is the client's word alone.
        """
        return decode_principal(self._principal)

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's ``metadata``, unknown members included."""
        return msgspec.json.decode(self._metadata, type=dict[str, Any]) if self._metadata else {}

    @property
    def cancelled(self) -> bool:
        """Whether the call was cancelled. For plain functions, which cannot be interrupted."""
        return self._cancelled

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; infinite where there is none. Negative once it has passed."""
        return self._deadline - time.monotonic()

    @property
    def deadline(self) -> float:
        """The deadline on this host's monotonic clock, in seconds."""
        return self._deadline

    def nested_metadata(self, own: dict[str, Any]) -> dict[str, Any]:
        """The metadata of a nested call: ``own`` over this call's, so that traces and priorities are inherited.

        What means this call alone stays behind. So does its ``timeout_ms``: what is left of it is in the deadline.
        """
        metadata = self.metadata
        for name in (*CALLERS_OWN, "timeout_ms"):
            metadata.pop(name, None)
        return metadata | own

    def mark_cancelled(self) -> None:
        """Mark the call as cancelled; called by the runner."""
        self._cancelled = True

    def raise_if_cancelled(self) -> None:
        """End a long plain function at a point of its choosing, if the call was cancelled.

        Raises:
            RpcError: -32800.
        """
        if self._cancelled:
            raise RpcError(ErrorCode.CANCELLED, f"{self.method} was cancelled", maybe_executed=True)

    async def call(self, method: str, params: Any = None, *, timeout_ms: int | None = None) -> Any:
        """Call another method, wherever it runs: in an executor, in the hub, at a client that registered it.

        It inherits what is left of this call's deadline, its priority, ``traceparent``, ``request_id`` and whatever
        else its metadata has that is not this call's alone (``idempotency_key``, ``progress_token``, ``window``).

        The slot this call holds is free for others meanwhile, so that methods which call each other cannot
        deadlock the pool.

        Raises:
            RpcError: the error that the other method ended with.
        """
        return await self._host.call(self, method, params, _metadata(timeout_ms))

    def stream(self, method: str, params: Any = None, *, timeout_ms: int | None = None) -> AsyncIterator[Chunk]:
        """Stream from another method. Leaving the loop early cancels it."""
        return self._host.stream(self, method, params, _metadata(timeout_ms))

    async def publish(self, topic: str, data: Any, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Publish an event. Returns its position, ``{"topic", "epoch", "offset"}``, when it is stored.

        Args:
            data: any JSON.
            idempotency_key: the same key on the same topic within five minutes is the same event: where this method
                may run again (it is idempotent), a key made from its params publishes once.

        Raises:
            RpcError: -32602, an invalid topic; 6002, one of the hub's own; 2002, too much waits to be delivered.
        """
        params = {"topic": topic, "data": data}
        if idempotency_key is not None:
            params["idempotency_key"] = idempotency_key
        position: dict[str, Any] = await self.call("publish", params)
        return position

    def progress(self, value: Any) -> None:
        """Report progress (any JSON) to a caller that asked for it with ``metadata.progress_token``."""
        self._host.progress(self, value)

    def set_result(self, value: Any) -> None:
        """For generators: the result that follows the last chunk. Without it that is ``{"chunks": n}``."""
        self.result = value

    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a plain function on the executor's one thread, behind other plain functions."""
        return await self._host.run_in_thread(function, *args)


CURRENT_CALL: Final[ContextVar[Context | None]] = ContextVar("trunkline_call", default=None)
"""The context of the call that code runs in, its tasks and the runner's thread included; None outside of one."""


def _metadata(timeout_ms: int | None) -> dict[str, Any]:
    return {} if timeout_ms is None else {"timeout_ms": timeout_ms}
