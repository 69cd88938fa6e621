"""Bugs, planted one at a time: each is a patch of the product, and a simulation that does not find it is no use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from tests.simulation.run import Outcome, simulate
from trunkline.client.received_events import Position, _Place
from trunkline.client.streams import StreamCall
from trunkline.client.subscribing import Subscription
from trunkline.executors import pool
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.pool import ExecutorPool
from trunkline.hosting.app import HubParts
from trunkline.hub.connection import Connection
from trunkline.hub.idempotency import IdempotencyKeys
from trunkline.hub.outbox import Outbox
from trunkline.hub.registrations import Registrations
from trunkline.hub.resumption import SessionLink
from trunkline.hub.router import Router
from trunkline.jobs import job_runner as runner
from trunkline.jobs.job import Job, Started
from trunkline.jobs.job_runner import JobRunner
from trunkline.jobs.service import Jobs
from trunkline.storage.disk_thread import DiskThread
from trunkline_protocol.calls import Call
from trunkline_protocol.session import SessionCore

Bug = Callable[[], AbstractContextManager[object]]
"""Patches the product as long as the context is entered."""


def _in_place_of(owner: type, name: str, made: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Bug:
    """A bug in one method: ``made`` gets the right one, and returns the wrong one."""
    return lambda: patch.object(owner, name, made(getattr(owner, name)))


def _lost_acknowledgement(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(_self: SessionLink) -> None:
        """The hub never acknowledges what it was sent, but when a session is resumed."""

    return wrong


def _settled_twice(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: Call, code: int) -> bool:
        """A call that is settled may be settled again."""
        if not self.settled and self.owner is not None:
            self.settled = True
            self.owner.finished(self, code)
        return True

    return wrong


def _slot_leaked(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: ExecutorPool, handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        """A call that fails keeps its slot."""
        call = handle.in_flight.get(call_id)
        right(self, handle, call_id, body)
        if call is not None and call.info is not None:
            handle.lanes[call.info.lane].load += 1

    return wrong


def _slot_of_cancelled_kept(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(_self: ExecutorPool, _call: Call) -> None:
        """A call that is cancelled runs on, and whoever waits for an executor is never forgotten."""

    return wrong


def _gap_not_announced(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(_self: Outbox, _gap: bytes) -> None:
        """Nobody hears that what was to be recovered is not there any more."""

    return wrong


def _number_not_counted(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: SessionCore, seq: int, size: int = 0) -> bool:
        """One frame is taken, and not counted."""
        is_new: bool = right(self, seq, size)
        if seq == 20:
            self.received -= 1
        return is_new

    return wrong


def _any_may_run_again(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(call: Call) -> bool:
        """What an executor that died was running runs again, declared idempotent or not."""
        return not call.chunks and call.attempts < 3

    return wrong


def _event_twice(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: Subscription, item: Any) -> bool:
        """A subscription takes what it has already."""
        self._positions.take(item)
        self._queue.add(item)
        self._arrived.set()
        return self._queue.is_crowded

    return wrong


def _deadline_ignored(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(_self: Router, _call: Call, _now: float) -> None:
        """Nothing happens when the time of a call is over."""

    return wrong


def _key_run_twice(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: IdempotencyKeys, call: Call, principal: str, key: str, backend: Any) -> None:
        """What is running under a key is not looked at."""
        self._running.pop((principal, key), None)
        right(self, call, principal, key, backend)

    return wrong


def _chunk_lost_at_resume(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: SessionCore, received: int) -> list[bytes]:
        """The last frame that was written before a cut does not come again, if it is a chunk."""
        missing: list[bytes] = right(self, received)
        return missing[:-1] if missing and b"stream_chunk" in missing[-1] else missing

    return wrong


def _calls_of_gone_callee_forgotten(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: Registrations, connection: Any) -> None:
        """Nobody answers the calls that a client was running when it left."""
        for callee in self._of_connection.get(connection, {}).values():
            callee.running.clear()
        right(self, connection)

    return wrong


def _chunk_out_of_order(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: StreamCall, params: dict[str, Any], size: int) -> None:
        """A client takes chunks whatever their number is."""
        if params["index"] != 2 or params.get("is_final"):
            right(self, params, size)

    return wrong


def _former_subscriptions_kept(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: HubParts, newcomer: Connection, own: Connection) -> None:
        """A session that goes on over a newer connection still has the subscriptions of the former one."""
        self._closed(newcomer)
        self._opened(own)
        asyncio.get_running_loop().call_soon(self.registrations.changed, own)

    return wrong


class _Hasty:
    """What writes jobs, in the place of the disk's thread: it does not wait until that is done."""

    def __init__(self, disk: DiskThread) -> None:
        self._disk = disk

    async def do(self, function: Callable[..., Any], *args: Any) -> None:
        self._disk.soon(function, *args)


def _acknowledged_early(right: Callable[..., Any]) -> Callable[..., Any]:
    async def wrong(self: Jobs, *given: Any) -> Any:
        """A job is acknowledged before it is on disk."""
        disk = self._disk
        self._disk = _Hasty(disk)  # type: ignore[assignment]  # it waits for nothing: nobody else meets it
        try:
            return await right(self, *given)
        finally:
            self._disk = disk

    return wrong


def _attempt_counted_twice(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(self: Job, event: Any) -> None:
        """An attempt counts when it is begun, and again when it has ended."""
        right(self, event)
        self.attempts += isinstance(event, Started)

    return wrong


def _any_job_again(_right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(_error: Any, *, failures: int, limit: int, **_more: Any) -> bool:
        """A job is tried again whatever its error was: it has run, and nobody has declared that it may again."""
        return failures + 1 < limit

    return wrong


def _outcome_not_durable(_right: Callable[..., Any]) -> Callable[..., Any]:
    async def wrong(self: JobRunner, job: Job, outcome: Any, result: bytes | None = None) -> None:
        """An outcome is seen before it is on disk."""
        self._disk.soon(self._store.finish, job.id, outcome, result)
        job.apply(outcome)
        self._changed(job, result)

    return wrong


PLANTED: Final[dict[str, Bug]] = {
    "an acknowledgement is lost": _in_place_of(SessionLink, "_acknowledge_now", _lost_acknowledgement),
    "a call is settled twice": _in_place_of(Call, "_settle", _settled_twice),
    "a slot is leaked": _in_place_of(ExecutorPool, "_on_error", _slot_leaked),
    "the slot of a cancelled call is kept": _in_place_of(ExecutorPool, "cancel", _slot_of_cancelled_kept),
    "a gap is not announced": _in_place_of(Outbox, "send_gap", _gap_not_announced),
    "a sequence number is not counted": _in_place_of(SessionCore, "receive", _number_not_counted),
    "what may have run is run again": lambda: patch.object(pool, "may_run_again", _any_may_run_again(lambda: None)),
    "an event comes twice after a recovery": _in_place_of(Subscription, "take", _event_twice),
    "a deadline is ignored": _in_place_of(Router, "_expire", _deadline_ignored),
    "a keyed call runs twice": _in_place_of(IdempotencyKeys, "submit", _key_run_twice),
    "a chunk is lost when a session is resumed": _in_place_of(SessionCore, "resume", _chunk_lost_at_resume),
    "calls of a callee that is gone are not answered": _in_place_of(
        Registrations, "gone", _calls_of_gone_callee_forgotten
    ),
    "subscriptions of a former connection stay": _in_place_of(HubParts, "_moved", _former_subscriptions_kept),
    "a new epoch counts before its gap has come": lambda: patch.object(
        _Place, "position", property(lambda place: Position(place.epoch, place.offset))
    ),
    "a job is acknowledged before it is on disk": _in_place_of(Jobs, "_make", _acknowledged_early),
    "an attempt of a job is counted twice": _in_place_of(Job, "apply", _attempt_counted_twice),
    "a job that has run is tried again": lambda: patch.object(runner, "runs_again", _any_job_again(lambda: None)),
    "an outcome of a job is seen before it is on disk": _in_place_of(JobRunner, "_conclude", _outcome_not_durable),
    "a chunk is skipped": _in_place_of(StreamCall, "chunk", _chunk_out_of_order),
}


def first_seed(bug: Bug, seeds: Iterable[int]) -> Outcome | None:
    """The run that finds a bug, of the first of some seeds that does; None if none does."""
    with bug():
        return next((outcome for seed in seeds if not (outcome := simulate(seed)).is_clean), None)
