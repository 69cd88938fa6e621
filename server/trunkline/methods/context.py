"""The context of a running call: what its method knows of the call, and what it can do beside returning."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol

import msgspec
from typing_extensions import TypeVar

from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import CALLERS_OWN, Window
from trunkline_protocol.principals import ENCODED_EXECUTOR, Principal, decode_principal
from trunkline_protocol.tokens import TokensUsed

KindT_co = TypeVar("KindT_co", bound=str, default=str, covariant=True)
DataT_co = TypeVar("DataT_co", default=Any, covariant=True)


@dataclass(frozen=True, slots=True)
class Chunk(Generic[KindT_co, DataT_co]):
    """One item of a stream with a type of its own; plain values are sent with type ``data``.

    Annotated ``Chunk[Literal["note"], Note]`` it says what chunks of that type carry; ``Chunk`` is one of any type.
    """

    type: KindT_co
    data: DataT_co


class Host(Protocol):
    """The services that a context needs of whoever runs the method: an executor process, or a test."""

    async def call(self, context: Context, method: str, params: Any, metadata: dict[str, Any]) -> Any:
        """Call another method through the hub."""

    def stream(
        self, context: Context, method: str, params: Any, metadata: dict[str, Any]
    ) -> AsyncGenerator[Chunk, None]:
        """Stream from another method through the hub."""

    def progress(self, context: Context, value: Any) -> None:
        """Report progress. Any thread may call this."""

    def used(self, context: Context, tokens: TokensUsed) -> None:
        """Tell what a call used of a language model. Any thread may call this."""

    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a plain function on the executor's one thread."""

    def wait_for(self, context: Context, work: Coroutine[Any, Any, Any], *, anyhow: bool = False) -> Any:
        """Run a coroutine of the loop's for a plain function, which waits for it. Not for the loop's own thread.

        Args:
            anyhow: also where the call was cancelled.

        Raises:
            RpcError: -32800, the call was cancelled.
        """


class Context:
    """Injected into methods that have a parameter annotated ``Context``.

    Attributes:
        method: the name this call came by.
        metadata: the caller's ``metadata`` object.
        depth: how many methods called each other down to this one; beyond 8 the hub refuses.
        worker_id: the executor that runs this call.
        group: the group of executors that it belongs to.
    """

    result: Any = None
    _cancelled = False
    _is_over = False
    _waits: tuple[asyncio.Task[Any], ...] = ()

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
        group: str = "default",
    ) -> None:
        self._host = host
        self._metadata = metadata
        self._deadline = deadline
        self._principal = principal
        self.call_id = call_id
        self.method = method
        self.depth = depth
        self.worker_id = worker_id
        self.group = group

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
    def request_id(self) -> str | None:
        """What logs, audit and errors name the request by; None where neither its caller nor an HTTP request gave one.

        The hub then makes one where it writes about the call itself, such as for its audit log.
        """
        given: str | None = self.metadata.get("request_id")
        return given

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
        """Mark the call as cancelled, and end what its plain function waits for; called by the runner."""
        self._cancelled = True
        for task in self._waits:
            task.cancel()

    def mark_over(self) -> None:
        """Mark the call as ended: it can call nothing any more; called by the runner."""
        self._is_over = True

    @contextmanager
    def waiting(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """While a plain function of the call waits for this task, let a cancel of the call end it."""
        self._waits += (task,)
        try:
            yield
        finally:
            self._waits = tuple(other for other in self._waits if other is not task)

    def raise_if_cancelled(self) -> None:
        """End a long plain function at a point of its choosing, if the call was cancelled.

        Raises:
            RpcError: -32800.
        """
        if self._cancelled:
            raise RpcError(ErrorCode.CANCELLED, f"{self.method} was cancelled", maybe_executed=True)

    @property
    def blocking(self) -> Blocking:
        """``call``, ``stream`` and ``publish`` for plain functions, which wait for the outcome."""
        return Blocking(self)

    def _require_open(self, name: str) -> None:
        if self._is_over:
            raise RuntimeError(
                f"ctx.{name}: the call of {self.method} has ended; what goes on after a call uses the context of the "
                "executor's own, which load(settings, ctx: Context) gets"
            )

    def _require_usable(self, name: str) -> None:
        self._require_open(name)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                f"ctx.{name}: has to be awaited, which a plain function cannot: use ctx.blocking.{name}, or make "
                f"{self.method} async def"
            ) from None

    def call(self, method: str, params: Any = None, *, timeout_ms: int | None = None) -> Coroutine[Any, Any, Any]:
        """Call another method, wherever it runs: in an executor, in the hub, at a client that registered it.

        It inherits what is left of this call's deadline, its priority, ``traceparent``, ``request_id`` and whatever
        else its metadata has that is not this call's alone (``idempotency_key``, ``progress_token``, ``window``).

        The slot this call holds is free for others meanwhile, so that methods which call each other cannot
        deadlock the pool.

        Raises:
            RpcError: the error that the other method ended with.
            RuntimeError: called by a plain function, or after this call has ended.
        """
        self._require_usable("call")
        return self._host.call(self, method, params, _metadata(timeout_ms))

    def stream(self, method: str, params: Any = None, *, timeout_ms: int | None = None) -> AsyncGenerator[Chunk, None]:
        """Stream from another method. Leaving the loop early cancels it. Raises RuntimeError as :meth:`call` does."""
        self._require_usable("stream")
        return self._host.stream(self, method, params, _metadata(timeout_ms))

    def publish(
        self, topic: str, data: Any, *, idempotency_key: str | None = None
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Publish an event. Returns its position, ``{"topic", "epoch", "offset"}``, when it is stored.

        Args:
            data: any JSON.
            idempotency_key: the same key on the same topic within five minutes is the same event: where this method
                may run again (it is idempotent), a key made from its params publishes once.

        Raises:
            RpcError: -32602, an invalid topic; 6002, one of the hub's own; 2002, too much waits to be delivered.
            RuntimeError: called by a plain function, or after this call has ended.
        """
        self._require_usable("publish")
        return self._host.call(self, "publish", _event(topic, data, idempotency_key), {})

    def progress(self, value: Any) -> None:
        """Report progress (any JSON) to a caller that asked for it with ``metadata.progress_token``."""
        self._host.progress(self, value)

    def count_tokens(self, prompt: int, completion: int, *, told: bool = True) -> None:
        """Count the tokens of a request to a language model for the tenant of the call, in ``tenants.usage``.

        Args:
            told: false where the endpoint did not say how many: that is counted, too.

        Raises:
            ValueError: a number is negative, or no integer.
        """
        self._require_open("count_tokens")
        try:
            used = msgspec.convert([prompt, completion, told], TokensUsed)
        except msgspec.ValidationError as error:
            raise ValueError(f"ctx.count_tokens({prompt!r:.40}, {completion!r:.40}): {error}") from None
        self._host.used(self, used)

    def set_result(self, value: Any) -> None:
        """For generators: the result that follows the last chunk. Without it that is ``{"chunks": n}``."""
        self.result = value

    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a plain function on the executor's one thread, behind other plain functions."""
        return await self._host.run_in_thread(function, *args)


class Blocking:
    """What plain functions ask for beside returning: each waits until it is there.

    Another plain function may run meanwhile, so that those which call each other cannot deadlock; the first goes on
    when that one has ended, or waits itself. A cancel of the call ends the wait with -32800, its deadline with 1002.

    Raises of all three: RuntimeError, on the event loop, or after the call has ended.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._host = context._host

    def call(self, method: str, params: Any = None, *, timeout_ms: int | None = None) -> Any:
        """Call another method and return its result; as :meth:`Context.call`."""
        self._require_usable("call")
        return self._wait(self._host.call(self._context, method, params, _metadata(timeout_ms)))

    def stream(self, method: str, params: Any = None, *, timeout_ms: int | None = None) -> Iterator[Chunk]:
        """Yield the chunks of another method's stream; leaving the loop early cancels it; as :meth:`Context.stream`."""
        self._require_usable("stream")
        chunks = self._host.stream(self._context, method, params, _metadata(timeout_ms))
        try:
            while (chunk := self._wait(_next(chunks))) is not None:
                yield chunk
        finally:
            self._host.wait_for(self._context, chunks.aclose(), anyhow=True)

    def publish(self, topic: str, data: Any, *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Publish an event and return its position; as :meth:`Context.publish`."""
        self._require_usable("publish")
        params = _event(topic, data, idempotency_key)
        position: dict[str, Any] = self._wait(self._host.call(self._context, "publish", params, {}))
        return position

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._host.wait_for(self._context, work)

    def _require_usable(self, name: str) -> None:
        self._context._require_open(f"blocking.{name}")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        words = f"ctx.blocking.{name}: would block the event loop, on which this runs: await ctx.{name} instead"
        raise RuntimeError(words)


async def _next(chunks: AsyncGenerator[Chunk, None]) -> Chunk | None:
    return await anext(chunks, None)


def _event(topic: str, data: Any, idempotency_key: str | None) -> dict[str, Any]:
    params = {"topic": topic, "data": data}
    return params if idempotency_key is None else params | {"idempotency_key": idempotency_key}


def executors_context(host: Host, worker_id: str) -> Context:
    """The context of an executor itself, for ``load`` and what that begins: it has no deadline, and no call ends it."""
    return Context(host, 0, "load", b"", math.inf, 0, worker_id, ENCODED_EXECUTOR)


CURRENT_CALL: Final[ContextVar[Context | None]] = ContextVar("trunkline_call", default=None)
"""The context of the call that code runs in, its tasks and the runner's thread included; None outside of one."""


def _metadata(timeout_ms: int | None) -> dict[str, Any]:
    return {} if timeout_ms is None else {"timeout_ms": timeout_ms}
