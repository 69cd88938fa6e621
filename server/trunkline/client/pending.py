"""Calls without their answer, by id."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from trunkline.client.connection_state import DisconnectedError
from trunkline.client.conversation import Conversation
from trunkline.client.outgoing import Outgoing, encode_exactly
from trunkline_protocol.errors import ErrorCode, RpcError, is_draining
from trunkline_protocol.hub_methods import UNNUMBERED_CALLS
from trunkline_protocol.messages import Id

LOCAL_GRACE: Final = 2.0
"""Seconds the hub gets beyond a call's timeout before the client gives up by itself."""

logger = logging.getLogger("trunkline.client")


class CreditTaker(Protocol):
    """What sends items and waits until they are taken."""

    def grant(self, taken: int) -> None:
        """So many were taken in total."""


class PendingRequest(Outgoing):
    """A request without its answer. Subclasses say what becomes of the answer.

    Args:
        request_id: never used again, so that no answer finds the wrong call.
        body: ``"method":...,"params":...`` as JSON, without braces.
        metadata: the members of ``metadata``.
        deadline: on the loop's clock; None if there is none, or if the hub alone keeps it.

    Raises:
        ValueError: JSON cannot carry the metadata.

    Attributes:
        is_written: whether a hub may have it.
        is_for_one_hub: only the hub of now knows its idempotency key, and the work may have been done.
        is_over: it has its answer, or nobody waits for it.
        may_wait: what a hub refuses because it is stopping may be asked of the next one.
        feeder: where the hub's credit for its input goes.
    """

    __slots__ = (
        "_head", "_metadata", "_tail", "deadline", "feeder", "id", "is_for_one_hub", "is_late", "is_over", "is_written",
        "may_wait", "method",
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
        self.is_over = False
        self.is_for_one_hub = False
        self.is_late = False
        self.may_wait = False
        self.feeder: CreditTaker | None = None

    def frame(self, now: float) -> bytes:
        """See :class:`Outgoing`. The hub is told what is left of the time, where it waited."""
        if self.is_late and self.deadline is not None:
            left = max(1, int((self.deadline - now) * 1000))
            return self._head + self._encode(self._metadata | {"timeout_ms": left})
        return self._head + self._tail

    def _encode(self, metadata: dict[str, Any]) -> bytes:
        return b',"metadata":%b}' % encode_exactly(metadata, f"metadata of {self.method}")

    def mark_written(self) -> None:
        """See :class:`trunkline.client.outgoing.Outgoing`."""
        self.is_written = True

    def refused(self, error: RpcError) -> None:
        """See :class:`trunkline.client.outgoing.Outgoing`."""
        self.is_over = True
        self.fail(error)

    @property
    def survives(self) -> bool:
        """See :class:`trunkline.client.outgoing.Outgoing`."""
        return not self.is_over and not self.is_for_one_hub

    @property
    def is_asked_again(self) -> bool:
        """Whether, being about one connection only, it is to be put to the next one as well."""
        return not self.is_numbered

    def settle(self, result: Any) -> None:
        """The hub has answered."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """There is no result."""
        raise NotImplementedError

    def report(self, value: Any) -> None:
        """It makes progress."""

    def chunk(self, params: dict[str, Any], size: int) -> None:
        """One item of a stream, in a frame of ``size`` bytes."""


class UnaryCall(PendingRequest):
    """A call whose caller awaits :attr:`future`. ``on_result`` sees the result before the next message is read."""

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

    def settle(self, result: Any) -> None:
        """See :class:`PendingRequest`."""
        if self.future.done():
            return
        try:
            if self.on_result is not None:
                self.on_result(result)
        except Exception as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """See :class:`PendingRequest`."""
        if not self.future.done():
            self.future.set_exception(error)

    def report(self, value: Any) -> None:
        """See :class:`PendingRequest`. The caller's own bug ends the caller's own call, and nothing else."""
        if self.on_progress is None or self.future.done():
            return
        try:
            self.on_progress(value)
        except Exception as error:
            self.fail(error)

    def forget(self) -> None:
        """Nobody waits any more; an error that came meanwhile is not worth a warning of the event loop."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.future.cancel() and not self.future.cancelled():
            self.future.exception()


class Calls:
    """All of a client's calls that are open."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._open: dict[int, PendingRequest] = {}

    def __len__(self) -> int:
        return len(self._open)

    def next_id(self) -> int:
        """An id that no other call has, had or will have."""
        return next(self._ids)

    def begin(self, call: PendingRequest) -> None:
        """Send it, now or when there is a connection.

        Raises:
            DisconnectedError: there is none, and no room to wait for it.
        """
        self._conversation.admit(call.method, call.size)
        call.is_late = not self._conversation.is_connected
        self._open[call.id] = call
        self._conversation.send(call)
        if isinstance(call, UnaryCall) and call.deadline is not None:
            call.timer = self._loop.call_at(call.deadline, self._overdue, call)

    def begin_first(self, calls: Sequence[PendingRequest]) -> None:
        """Send these ahead of everything else, in their order."""
        for call in calls:
            self._open[call.id] = call
        self._conversation.send_first(calls)

    def end(self, call: PendingRequest) -> None:
        """It is over, whatever the hub says; if the hub may work on it, it is told."""
        call.is_over = True
        if self._open.pop(call.id, None) is None or self._conversation.withdraw(call):
            return
        if call.is_written:
            cancel = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}' % call.id
            self._conversation.send(Outgoing(cancel))

    def _overdue(self, call: UnaryCall) -> None:
        """Its time is over. The hub, which knows more, gets some more to say so."""
        now = self._loop.time()
        assert call.deadline is not None
        if call.is_written and now < call.deadline + LOCAL_GRACE:
            call.timer = self._loop.call_at(call.deadline + LOCAL_GRACE, self._overdue, call)
            return
        words = "the hub did not answer in time" if call.is_written else "there was no connection in time"
        error = RpcError(ErrorCode.COMMUNICATION_TIMEOUT, f"{call.method}: {words}", maybe_executed=call.is_written)
        self.end(call)
        call.fail(error)

    # --- what comes ---

    def answered(self, message: dict[str, Any]) -> None:
        """A response has come."""
        request_id = message.get("id")
        if not isinstance(request_id, int):
            logger.warning("the hub refused a message: %s", message.get("error"))
            return
        call = self._open.get(request_id)
        if call is None:
            return  # nobody waits for it any more
        if "error" in message and is_draining(message["error"]) and self._hold(call):
            return
        del self._open[request_id]
        call.is_over = True
        if "error" in message:
            call.fail(RpcError.from_wire(message["error"]))
        else:
            call.settle(message.get("result"))

    def _hold(self, call: PendingRequest) -> bool:
        """A hub that is stopping refused it: as if there were no connection, it waits for the next one, if it may."""
        if not call.may_wait or call.is_for_one_hub or not self._conversation.hold(call):
            return False
        call.is_written, call.is_late = False, True
        return True

    def reported(self, params: dict[str, Any]) -> None:
        """``$/progress`` has come."""
        call = self._open.get(params["token"])
        if call is not None:
            call.report(params["value"])

    def streamed(self, params: dict[str, Any], size: int) -> None:
        """``stream_chunk`` has come."""
        call = self._open.get(params["request_id"])
        if call is not None:
            call.chunk(params, size)

    def credited(self, params: dict[str, Any]) -> None:
        """``stream.credit`` has come, for the input of a call."""
        call = self._open.get(params["request_id"])
        if call is not None and call.feeder is not None:
            call.feeder.grant(params["consumed"])

    # --- connections ---

    def cut(self) -> None:
        """The connection is gone. Calls that were about it are put to the next one, or forgotten."""
        again: list[Outgoing] = []
        for call in [call for call in self._open.values() if not call.is_numbered]:
            if not call.is_asked_again:
                del self._open[call.id]
                call.is_over = True
                self._conversation.withdraw(call)
            elif call.is_written:
                call.is_written = False
                call.is_late = True
                again.append(call)
        self._conversation.send_first(again)

    def largest(self, *, numbered: bool) -> PendingRequest | None:
        """The written call with the largest message; ``numbered``: of all, not only of those without a number."""
        written = [call for call in self._open.values() if call.is_written and (numbered or not call.is_numbered)]
        return max(written, key=lambda call: call.size, default=None)

    def refuse(self, request_id: Id, error: RpcError) -> None:
        """The hub did not take its message, or a part of its input, and will not: the call is over."""
        call = self._open.pop(request_id, None) if isinstance(request_id, int) else None
        if call is not None:
            call.refused(error)

    def lost(self, error: Callable[[], DisconnectedError]) -> None:
        """The hub knows nothing any more of what it was sent: that ends, as maybe executed."""
        for call in [call for call in self._open.values() if call.is_written or not call.survives]:
            del self._open[call.id]
            call.is_over = True
            call.fail(error())

    def close(self, words: str) -> None:
        """There will be no connection any more."""
        calls, self._open = self._open, {}
        for call in calls.values():
            call.is_over = True
            call.fail(DisconnectedError(words, maybe_executed=call.is_written))
