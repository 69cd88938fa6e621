"""Calls that wait for their response, by id."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

from typing_extensions import override

from trunkline.client.connection_state import DisconnectedError, UsageError
from trunkline.client.conversation import Conversation
from trunkline.client.outgoing import Outgoing, encode_exactly
from trunkline.client.retrying import NoConnectionError
from trunkline_protocol.errors import ErrorCode, RpcError, is_draining, is_not_yet
from trunkline_protocol.hub_methods import UNNUMBERED_CALLS
from trunkline_protocol.messages import Id

LOCAL_GRACE: Final = 2.0
"""Seconds beyond a call's timeout after which the client fails the call by itself."""

NO_CONNECTION_SECONDS: Final = 30.0
"""How long a call without a timeout waits for a connection: as long as the hub lets a call run."""

logger = logging.getLogger("trunkline.client")


class CreditTaker(Protocol):
    """Sends the items of a call's input, as far as there is credit."""

    def grant(self, taken: int) -> None:
        """Note how many items were taken in total."""


class PendingRequest(Outgoing):
    """A request that waits for its response. Subclasses say what becomes of the response.

    Args:
        request_id: never used again, so that no response reaches the wrong call.
        body: ``"method":...,"params":...`` as JSON, without braces.
        metadata: the members of ``metadata``.
        deadline: on the loop's clock; None if there is none, or if only the hub enforces it.

    Raises:
        ValueError: JSON cannot carry the metadata.

    Attributes:
        is_written: whether a hub may have received the request.
        epoch: that hub's epoch of idempotency keys; None where it told none.
        is_for_one_hub: whether it must not go to another hub: only the present one knows its idempotency key, the
            method may have run, and no epoch tells the two apart.
        is_over: whether it has its response, or nothing waits for that.
        waits_until: on the loop's clock, when it stops waiting for a connection.
        may_wait: whether it may wait where a hub refuses it unread: for the next one if this one is stopping, or until
            this one can take it.
        refusal: why the hub could not take it yet, when it was last put to it.
        feeder: gets the hub's credit for its input.
    """

    __slots__ = (
        "_head", "_metadata", "_tail", "deadline", "epoch", "feeder", "id", "is_for_one_hub", "is_late", "is_over",
        "is_written", "may_wait", "method", "refusal", "waits_until",
    )  # fmt: skip

    def __init__(
        self, request_id: int, method: str, body: bytes, metadata: dict[str, Any], deadline: float | None = None
    ) -> None:
        super().__init__(b"", is_numbered=method not in UNNUMBERED_CALLS)
        self.id = request_id
        self.method = method
        self._head = b'{"jsonrpc":"2.0","id":%d,%b' % (request_id, body)
        self._metadata = metadata
        self._tail = self._encode(metadata) if metadata else b"}"
        self.deadline = deadline
        self.size = len(self._head) + len(self._tail)
        self.is_written = False
        self.epoch: str | None = None
        self.is_over = False
        self.is_for_one_hub = False
        self.is_late = False
        self.may_wait = False
        self.refusal: RpcError | None = None
        self.waits_until = 0.0
        self.feeder: CreditTaker | None = None

    @override
    def frame(self, now: float) -> bytes:
        # A request that waited for a connection has less time left than its metadata says.
        if self.is_late and self.deadline is not None:
            left = max(1, int((self.deadline - now) * 1000))
            return self._head + self._encode(self._metadata | {"timeout_ms": left})
        return self._head + self._tail

    def _encode(self, metadata: dict[str, Any]) -> bytes:
        return b',"metadata":%b}' % encode_exactly(metadata, f"metadata of {self.method}")

    @override
    def mark_written(self, epoch: str | None) -> None:
        self.is_written = True
        self.epoch = epoch

    @override
    def refused(self, error: RpcError) -> None:
        self.is_over = True
        self.fail(error)

    @property
    @override
    def survives(self) -> bool:
        return not self.is_over and not self.is_for_one_hub

    @property
    def is_asked_again(self) -> bool:
        """Whether a request about one connection only is made again on the next one."""
        return not self.is_numbered

    def settle(self, result: Any) -> None:
        """End the call with a result."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """End the call with an error."""
        raise NotImplementedError

    def report(self, value: Any) -> None:
        """Take a progress report; ignored unless overridden."""

    def chunk(self, params: dict[str, Any], size: int) -> None:
        """Take one chunk of a stream, from a message of ``size`` bytes; ignored unless overridden."""


class UnaryCall(PendingRequest):
    """A call with one result, awaited as :attr:`future`. ``on_result`` gets it before the next message is handled."""

    __slots__ = ("future", "on_progress", "on_result", "timer")

    def __init__(
        self,
        request_id: int,
        method: str,
        body: bytes,
        metadata: dict[str, Any],
        deadline: float | None = None,
        *,
        on_progress: Callable[[Any], None] | None = None,
        on_result: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(request_id, method, body, metadata, deadline)
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.on_progress = on_progress
        self.on_result = on_result
        self.timer: asyncio.TimerHandle | None = None

    @override
    def settle(self, result: Any) -> None:
        if self.future.done():
            return
        try:
            if self.on_result is not None:
                self.on_result(result)
        except Exception as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    @override
    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    @override
    def report(self, value: Any) -> None:
        # An exception in the caller's callback ends this call only.
        if self.on_progress is None or self.future.done():
            return
        try:
            self.on_progress(value)
        except Exception as error:
            self.fail(error)

    @override
    def chunk(self, params: dict[str, Any], size: int) -> None:
        self.fail(UsageError(f"{self.method} is a stream: use stream()"))

    def forget(self) -> None:
        """Stop timer and future: the caller has gone on. An error is retrieved, so that asyncio does not log it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.future.cancel() and not self.future.cancelled():
            self.future.exception()


def _unsent(call: PendingRequest, within: str) -> str:
    """Why a call that no hub has taken ends."""
    if call.refusal is None:
        return f"{call.method}: there was no connection {within}"
    return f"{call.method}: it was not taken {within}: {call.refusal.message}"


def located(error: Exception, call: PendingRequest) -> Exception:
    """An error with a note, in its traceback, of the call that it ended."""
    note = f"in the call of {call.method} (request {call.id})"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error


class Calls:
    """All open calls of a client."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._open: dict[int, PendingRequest] = {}

    def __len__(self) -> int:
        return len(self._open)

    def next_id(self) -> int:
        """An id that no other call of this client ever has."""
        return next(self._ids)

    def begin(self, call: PendingRequest) -> None:
        """Send a call, now or when there is a connection.

        Raises:
            DisconnectedError: there is no connection, and the queue is full.
        """
        self._conversation.admit(call.method, call.size)
        call.is_late = not self._conversation.is_connected
        self._open[call.id] = call
        self._conversation.send(call)
        if isinstance(call, UnaryCall) and call.deadline is not None:
            call.timer = self._loop.call_at(call.deadline, self._overdue, call)
        elif call.is_late:
            self._limit_wait(call)

    def begin_first(self, calls: Sequence[PendingRequest]) -> None:
        """Send calls ahead of everything else, in their order."""
        for call in calls:
            self._open[call.id] = call
        self._conversation.send_first(calls)

    def end(self, call: PendingRequest) -> None:
        """Forget a call; if the hub may be working on it, cancel it there."""
        call.is_over = True
        if self._open.pop(call.id, None) is None or self._conversation.withdraw(call):
            return
        if call.is_written:
            cancel = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}' % call.id
            self._conversation.send(Outgoing(cancel))

    def _limit_wait(self, call: PendingRequest) -> None:
        """Fail a call without a deadline of its own where there is no connection in time."""
        if not isinstance(call, UnaryCall) or call.deadline is None:
            call.waits_until = self._loop.time() + NO_CONNECTION_SECONDS
            self._loop.call_at(call.waits_until, self._not_sent, call, call.waits_until)

    def _not_sent(self, call: PendingRequest, until: float) -> None:
        if call.is_over or call.is_written or until != call.waits_until:
            return
        words = _unsent(call, f"within {NO_CONNECTION_SECONDS:g} s")
        self.end(call)
        call.fail(NoConnectionError(ErrorCode.COMMUNICATION_TIMEOUT, words, maybe_executed=False))

    def _overdue(self, call: UnaryCall) -> None:
        """Fail a call after its deadline; the hub, whose error says more, gets :data:`LOCAL_GRACE` seconds first."""
        now = self._loop.time()
        assert call.deadline is not None
        if call.is_written and now < call.deadline + LOCAL_GRACE:
            call.timer = self._loop.call_at(call.deadline + LOCAL_GRACE, self._overdue, call)
            return
        late = f"{call.method}: the hub did not answer in time"
        words = late if call.is_written else _unsent(call, "in time")
        error = RpcError(ErrorCode.COMMUNICATION_TIMEOUT, words, maybe_executed=call.is_written)
        self.end(call)
        call.fail(error)

    # --- messages from the hub ---

    def answered(self, message: dict[str, Any]) -> None:
        """Handle a response: end the call that it answers."""
        request_id = message.get("id")
        if not isinstance(request_id, int):
            logger.warning("the hub refused a message: %s", message.get("error"))
            return
        call = self._open.get(request_id)
        if call is None:
            return  # the call was cancelled or has timed out
        if "error" in message and self._waits(call, message["error"]):
            return
        del self._open[request_id]
        call.is_over = True
        if "error" in message:
            call.fail(RpcError.from_wire(message["error"]))
        else:
            call.settle(message.get("result"))

    def _waits(self, call: PendingRequest, error: dict[str, Any]) -> bool:
        """Whether a call that was refused unread waits: for the next hub, or until this one can take it."""
        return self._hold(call) if is_draining(error) else self._put_off(call, RpcError.from_wire(error))

    def _put_off(self, call: PendingRequest, error: RpcError) -> bool:
        """Ask again, after a while, for what executors cannot take yet; returns False where it is not so.

        That is no attempt of a retry policy: after its restart a hub may load models for longer than attempts last.
        """
        if not call.may_wait or not is_not_yet(error):
            return False
        if not call.is_late:
            self._limit_wait(call)
        elif call.deadline is None and self._loop.time() >= call.waits_until:
            return False
        self._wait_again(call, error)
        assert error.retry_after_ms is not None
        self._loop.call_later(error.retry_after_ms / 1000, self._ask_again, call)
        return True

    def _ask_again(self, call: PendingRequest) -> None:
        if not call.is_over:
            self._conversation.send(call)

    def _hold(self, call: PendingRequest) -> bool:
        """Queue a call that a stopping hub has refused for the next connection; returns False where it may not wait."""
        return call.may_wait and self._keep(call)

    def _keep(self, call: PendingRequest) -> bool:
        """Queue a call that no hub has acted on for the next connection; returns False where that is not possible."""
        if not call.survives or not self._conversation.hold(call):
            return False
        self._wait_again(call, None)
        self._limit_wait(call)
        return True

    def _wait_again(self, call: PendingRequest, refusal: RpcError | None) -> None:
        """Let a call that no hub has wait until its deadline: no answer may come later, as for one that was written."""
        call.is_written, call.is_late, call.refusal = False, True, refusal
        if isinstance(call, UnaryCall) and call.timer is not None and call.deadline is not None:
            call.timer.cancel()
            call.timer = self._loop.call_at(call.deadline, self._overdue, call)

    def reported(self, params: dict[str, Any]) -> None:
        """Handle ``$/progress``."""
        call = self._open.get(params["token"])
        if call is not None:
            call.report(params["value"])

    def streamed(self, params: dict[str, Any], size: int) -> None:
        """Handle ``stream_chunk``."""
        call = self._open.get(params["request_id"])
        if call is not None:
            call.chunk(params, size)

    def credited(self, params: dict[str, Any]) -> None:
        """Handle ``stream.credit`` for the input of a call."""
        call = self._open.get(params["request_id"])
        if call is not None and call.feeder is not None:
            call.feeder.grant(params["consumed"])

    # --- connections ---

    def cut(self) -> None:
        """Handle a lost connection: calls that concerned it only are queued for the next one, or forgotten."""
        again: list[Outgoing] = []
        for call in [call for call in self._open.values() if not call.is_numbered]:
            if not call.is_asked_again:
                del self._open[call.id]
                call.is_over = True
                self._conversation.withdraw(call)
            elif call.is_written:
                self._wait_again(call, call.refusal)
                again.append(call)
        self._conversation.send_first(again)

    def largest(self, *, numbered: bool) -> PendingRequest | None:
        """The written call with the largest message: of all or, if not ``numbered``, of those outside of a session."""
        written = [call for call in self._open.values() if call.is_written and (numbered or not call.is_numbered)]
        return max(written, key=lambda call: call.size, default=None)

    def refuse(self, request_id: Id, error: RpcError) -> None:
        """Fail a call whose message, or a part of its input, the hub does not accept."""
        call = self._open.pop(request_id, None) if isinstance(request_id, int) else None
        if call is not None:
            call.refused(error)

    def lost(self, error: Callable[[], DisconnectedError], unread: Collection[Outgoing]) -> None:
        """Fail the calls that a lost session leaves unknown to the hub; what it did not read goes to the next one."""
        for call in [call for call in self._open.values() if call.is_written or not call.survives]:
            if call in unread and call.feeder is None and self._keep(call):
                continue
            del self._open[call.id]
            call.is_over = True
            call.fail(error())

    def close(self, words: str) -> None:
        """Fail all calls: there will be no connection any more."""
        calls, self._open = self._open, {}
        for call in calls.values():
            call.is_over = True
            call.fail(DisconnectedError(words, maybe_executed=call.is_written))
