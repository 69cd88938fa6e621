"""Makes calls: the user's, with retries and input, and the client's own on each new connection."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from typing_extensions import override

from trunkline.client.connection_state import CloseInfo, DisconnectedError
from trunkline.client.conversation import Conversation
from trunkline.client.outgoing import Outgoing, encode_body
from trunkline.client.pending import Calls, PendingRequest, UnaryCall, located
from trunkline.client.retrying import ONCE, Random, Repeats, Retry, retry_delay
from trunkline.client.streams import Feeder, Input, ResultStream, StreamCall
from trunkline_protocol.errors import RpcError
from trunkline_protocol.messages import Window

NO_MEMBERS: Final[dict[str, Any]] = {}

PATIENT: Final = Repeats(Retry(attempts=sys.maxsize), idempotent=True)
"""The repeats of the client's own calls, such as registrations of a new session: what the hub refuses for a while
is tried until it is accepted, or refused for good."""

MAX_HINT_MS: Final = 30_000
"""The longest that a call without a timeout waits because the hub says so: the hub's own deadline for a call."""

logger = logging.getLogger("trunkline.client")


class Callers:
    """Makes the user's calls.

    Args:
        closed: done when there will be no connection any more.
        retry: the default policy of calls; None for never.
        random: source of the random waits between attempts.
    """

    def __init__(
        self,
        calls: Calls,
        conversation: Conversation,
        closed: asyncio.Future[CloseInfo],
        retry: Retry | None,
        random: Random,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls = calls
        self._conversation = conversation
        self._closed = closed
        self._retry = retry
        self._random = random
        self._feeders: set[Feeder] = set()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._conversation.is_connected

    def require_open(self, what: str) -> None:
        """Check that the client is not closed.

        Raises:
            DisconnectedError: the client is closed for good; the message names ``what`` was not sent.
        """
        if self._closed.done():
            info = self._closed.result()
            raise DisconnectedError(f"{what} was not sent: the connection is closed: {info}", maybe_executed=False)

    def repeats(self, retry: Retry | Literal[False] | None, *, idempotent: bool, keyed: bool) -> Repeats:
        """The retry policy that a call's arguments mean; ``retry=None`` is the default policy."""
        policy = self._retry if retry is None else (retry or None)
        return Repeats(policy, idempotent, keyed)

    async def call(
        self,
        method: str,
        params: Any,
        *,
        timeout_ms: float | None = None,
        members: dict[str, Any] = NO_MEMBERS,
        repeats: Repeats = ONCE,
        input: Input | None = None,
        on_progress: Callable[[Any], None] | None = None,
        on_result: Callable[[Any], None] | None = None,
    ) -> Any:
        """Call a method and return its result, as :meth:`trunkline.client.hub.Hub.call`.

        Args:
            on_result: called with the result before the next message of the hub is handled.
        """
        body = encode_body(method, params)
        deadline = None if timeout_ms is None else self._loop.time() + timeout_ms / 1000
        attempt, maybe_executed, hub = 1, False, self._conversation.hub
        epoch: str | None = None
        while True:
            try:
                self.require_open(method)
                request_id = self._calls.next_id()
                metadata = self._metadata(members, deadline, timeout_ms if attempt == 1 else None)
                if on_progress is not None:
                    metadata["progress_token"] = request_id
                if epoch is not None:
                    metadata["idempotency_epoch"] = epoch
                call = UnaryCall(
                    request_id, method, body, metadata, deadline, on_progress=on_progress, on_result=on_result
                )
                # Another hub does not know the idempotency key: it would repeat work that may have been done.
                call.is_for_one_hub = maybe_executed and epoch is None and not repeats.idempotent
                call.may_wait = _repeats(repeats.retry) and input is None
                if call.is_for_one_hub and hub != self._conversation.hub:
                    words = f"{method}: the hub that knows its idempotency key is gone"
                    raise DisconnectedError(words, maybe_executed=True)
                self._calls.begin(call)
            except (RpcError, DisconnectedError) as error:
                error.maybe_executed |= maybe_executed
                raise
            try:
                return await self._answer(call, input)
            except (RpcError, DisconnectedError) as error:
                hub = self._conversation.hub
                if repeats.keyed and not repeats.idempotent and error.maybe_executed and not maybe_executed:
                    epoch = call.epoch
                maybe_executed |= error.maybe_executed
                again = await self._pause(
                    error, attempt, deadline, repeats if input is None else ONCE, epoch is not None
                )
                if not again:
                    error.maybe_executed = maybe_executed
                    located(error, call)
                    raise
            attempt += 1

    async def ask(
        self,
        method: str,
        params: Any,
        *,
        timeout_ms: float | None = None,
        idempotent: bool = False,
        on_result: Callable[[Any], None] | None = None,
    ) -> Any:
        """Call a method on the client's own account, for its user; idempotent calls are retried."""
        repeats = Repeats(self._retry or Retry(), idempotent=True) if idempotent else ONCE
        return await self.call(method, params, timeout_ms=timeout_ms, repeats=repeats, on_result=on_result)

    def _metadata(self, members: dict[str, Any], deadline: float | None, timeout_ms: float | None) -> dict[str, Any]:
        metadata = dict(members)
        if deadline is not None:
            left = (deadline - self._loop.time()) * 1000
            metadata["timeout_ms"] = max(1, int(left)) if timeout_ms is None else timeout_ms
        return metadata

    async def _answer(self, call: UnaryCall, source: Input | None) -> Any:
        feeder = None if source is None else self._feed(call, source)
        try:
            return await call.future
        finally:
            self._calls.end(call)
            call.forget()
            if feeder is not None:
                await self._stop(feeder)

    async def _pause(
        self,
        error: RpcError | DisconnectedError,
        attempt: int,
        deadline: float | None,
        repeats: Repeats,
        has_epoch: bool,
    ) -> bool:
        """Wait until the next attempt; returns False where there is none."""
        delay = retry_delay(error, attempt, repeats, self._random, has_epoch=has_epoch)
        if delay is None or (deadline is not None and self._loop.time() + delay >= deadline):
            return False
        if deadline is None and isinstance(error, RpcError) and (error.retry_after_ms or 0) > MAX_HINT_MS:
            return False
        if not self._closed.done():
            await asyncio.wait([self._closed], timeout=delay)
        return not self._closed.done()

    def stream(
        self, method: str, params: Any, *, members: dict[str, Any], input: Input | None, window: Window
    ) -> ResultStream:
        """Start a streaming call, as :meth:`trunkline.client.hub.Hub.stream`."""
        self.require_open(method)
        metadata = members | {"window": {"items": window.items, "bytes": window.bytes}}
        call = StreamCall(self._calls.next_id(), method, encode_body(method, params), metadata, window, self._grant)
        call.may_wait = _repeats(self._retry) and input is None
        self._calls.begin(call)
        feeder = None if input is None else self._feed(call, input)

        async def release() -> None:
            self._calls.end(call)
            if feeder is not None:
                await self._stop(feeder)

        return ResultStream(call, release)

    def _grant(self, request_id: int, consumed: int) -> None:
        credit = b'{"jsonrpc":"2.0","method":"stream.credit","params":{"request_id":%d,"consumed":%d}}'
        self._conversation.send(Outgoing(credit % (request_id, consumed)))

    def _feed(self, call: PendingRequest, source: Input) -> Feeder:
        def failed(error: Exception) -> None:
            self._calls.end(call)
            call.fail(error)

        def send(item: Outgoing) -> None:
            self._conversation.require_size(item.size)
            self._conversation.send(item)

        feeder = Feeder(call, source, send, failed)
        self._feeders.add(feeder)
        return feeder

    async def _stop(self, feeder: Feeder) -> None:
        self._feeders.discard(feeder)
        await feeder.stop()

    async def close(self) -> None:
        """Stop sending the input of all calls: there will be no connection any more."""
        await asyncio.gather(*(self._stop(feeder) for feeder in list(self._feeders)))


def _repeats(retry: Retry | None) -> bool:
    return retry is not None and retry.attempts > 1


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """A call of the client itself, such as a subscription that is restored.

    Attributes:
        done: called with the result before the next message is handled.
        failed: called with the error when the call is not retried.
    """

    method: str
    params: Any
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]


class OwnRequestAttempt(PendingRequest):
    """One attempt of an :class:`OwnRequest`. A lost connection drops it silently: the next one makes it again."""

    __slots__ = ("_done", "_failed")

    def __init__(
        self,
        request_id: int,
        method: str,
        body: bytes,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(request_id, method, body, {})
        self._done = done
        self._failed = failed

    @property
    @override
    def is_asked_again(self) -> bool:
        return False

    @property
    @override
    def survives(self) -> bool:
        return False

    @override
    def settle(self, result: Any) -> None:
        self._done(result)

    @override
    def fail(self, error: Exception) -> None:
        self._failed(error)


class OwnRequests:
    """Makes the client's own calls, ahead of everything else, and retries them where the error is retryable.

    A lost connection drops those that concern the connection only; the end of the session drops all.
    """

    def __init__(self, calls: Calls, random: Random) -> None:
        self._calls = calls
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[OwnRequestAttempt, asyncio.TimerHandle] = {}

    def run(self, requests: Iterable[OwnRequest]) -> None:
        """Make these calls, in order."""
        self._calls.begin_first([self._attempt(request, 1) for request in requests])

    def _attempt(self, request: OwnRequest, attempt: int) -> OwnRequestAttempt:
        def failed(error: Exception) -> None:
            self._failed(request, attempt, error)

        body = encode_body(request.method, request.params)
        return OwnRequestAttempt(self._calls.next_id(), request.method, body, request.done, failed)

    def _failed(self, request: OwnRequest, attempt: int, error: Exception) -> None:
        if isinstance(error, DisconnectedError):
            return  # the next connection makes the call again
        delay = None
        if isinstance(error, RpcError):
            delay = retry_delay(error, attempt, PATIENT, self._random)
        if delay is None:
            request.failed(error)
            return
        logger.info("%s failed and is retried in %.1f s: %s", request.method, delay, error)
        call = self._attempt(request, attempt + 1)
        self._waiting[call] = self._loop.call_later(delay, self._again, call)

    def _again(self, call: OwnRequestAttempt) -> None:
        del self._waiting[call]
        self._calls.begin_first([call])

    def cut(self) -> None:
        """Drop the retries of calls that concern the lost connection only."""
        self._stop([call for call in self._waiting if not call.is_numbered])

    def lost(self) -> None:
        """Drop all retries: the session is over."""
        self._stop(list(self._waiting))

    def _stop(self, calls: list[OwnRequestAttempt]) -> None:
        for call in calls:
            self._waiting.pop(call).cancel()
