"""The pool: dispatches each call to an executor or queues it, and settles calls with what executors answer.

Rules (SPEC.md, Executors): the caller gets exactly one outcome; a call that was sent to an executor may have run, so
after a crash only idempotent calls that streamed nothing, and got no input, run again; queues are bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline.background import keep_up
from trunkline.executors import ipc
from trunkline.executors.availability import Standstill, reports, running
from trunkline.executors.broadcast import Broadcasts
from trunkline.executors.crew import Crew
from trunkline.executors.endings import crashed, may_run_again
from trunkline.executors.group_backlog import GroupBacklog
from trunkline.executors.groups import MEAN_SHARE, SLOW_FROM, Routes, make_groups
from trunkline.executors.handle import NOWHERE, ExecutorHandle, FrameHandler
from trunkline.executors.handover import HandOverHost, HandOverLimits, KeyOwners
from trunkline.executors.method_recovery import Recovery
from trunkline.executors.modules import FailedModules
from trunkline.executors.nesting import NestedCall, Nesting
from trunkline.executors.orphans import Orphans
from trunkline.executors.quarantine import Quarantine, QuarantineLimits
from trunkline.executors.queueing import HeldInput, Queue, open_input
from trunkline.executors.replacement import ReplacementLimits, Replacements
from trunkline.executors.specs import GroupSpec
from trunkline.executors.watchdog import LOOK_EVERY, QUIET_AFTER, Watchdog, count_kill
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import NO_DEADLINE, Call, CallBackend
from trunkline_protocol.catalogue import VECTORS_PACK, Catalogue, Lane, MethodInfo, ModuleFailure
from trunkline_protocol.errors import ErrorCode, RpcError, draining_error
from trunkline_protocol.health_reports import ExecutorReport, GroupSeen
from trunkline_protocol.principals import StorageQuotas, with_quotas
from trunkline_protocol.slots import slot_of
from trunkline_protocol.tenants import NOTHING_SHARED, SharedNames

logger = logging.getLogger("trunkline.executors")
_catalogue_decoder: Final = msgspec.json.Decoder(Catalogue)


class ExecutorPool(CallBackend, HandOverHost):
    """All executors, as the one backend that runs calls.

    Args:
        groups: of executors; none make a pool that is always ready and knows no method.
        route_nested: takes the calls that methods make themselves.
        queue_limits: bounds of the queues.
        on_change: called when an executor has changed its state.
        on_reports: takes the frames STATS and USED; without it they are ignored.
        kill_after: seconds a call may keep running after its deadline or cancellation before its executor is killed.
        quarantine: when an input that kills executors is refused, and for how long.
        hand_over, replacement: limits of handing slots of routing keys over, and how processes are replaced.
        technique_of: the technique of a pipeline by its id; None for an unknown one.
    """

    crew_kind: ClassVar[type[Crew]] = Crew

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        route_nested: Callable[[Call], None],
        *,
        queue_limits: QueueLimits | None = None,
        kill_after: float = defaults.KILL_AFTER,
        quarantine: QuarantineLimits | None = None,
        hand_over: HandOverLimits | None = None,
        replacement: ReplacementLimits | None = None,
        technique_of: Callable[[str], str | None] = lambda _id: None,
        shared_collections: SharedNames = NOTHING_SHARED,
        on_change: Callable[[], None] = lambda: None,
        on_reports: Mapping[int, FrameHandler] | None = None,
    ) -> None:
        frames: dict[int, FrameHandler] = {}
        self.crew = self.crew_kind(groups, (frames, self._on_wire_lost), self._on_exit)
        self.executors = self.crew.executors
        self._groups = make_groups(groups, self.executors)
        self._group_of = [group for group in self._groups for _ in group.indexes]
        self._on_change = on_change
        self.watchdog = Watchdog(self.crew.processes, kill_after, self.kill)
        self._orphans = Orphans()
        self.quarantine = Quarantine(quarantine)
        self._routes = Routes(self._groups, technique_of, shared_collections)
        self._methods = self._routes.methods
        self.topics = self._routes.topics
        self._failed = FailedModules(self.executors, self._routes)
        limits = queue_limits or QueueLimits()
        self._backlog = GroupBacklog(self._routes, limits)
        self.take_turns_by_tenant = self._backlog.take_turns_by_tenant
        self.quotas: dict[str, StorageQuotas] = {}
        self._held = HeldInput(limits.bytes, self._backlog.hint)
        self.owners = KeyOwners(self.executors, self._backlog, hand_over or HandOverLimits(), self, on_change)
        replacing = replacement or ReplacementLimits()
        self.replacements = Replacements(self.crew, self.owners, replacing, self._on_swap, on_change)
        self._recovery = Recovery(self.submit, self.replacements.drain)
        self.broadcasts = Broadcasts(self.crew.processes)
        self._ids = itertools.count(1)
        self._ticker: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stopping = False
        nesting = Nesting(route_nested, self._refill)
        frames |= {
            ipc.RESULT: self._on_result,
            ipc.ERROR: self._on_error,
            ipc.CHUNK: ExecutorHandle.on_chunk,
            ipc.INPUT_CREDIT: ExecutorHandle.on_input_credit,
            ipc.PROGRESS: ExecutorHandle.on_progress,
            **(on_reports or dict.fromkeys((ipc.STATS, ipc.USED), lambda *_: None)),
            ipc.NESTED_CALL: nesting.on_call,
            ipc.NESTED_CANCEL: nesting.on_cancel,
            ipc.NESTED_CREDIT: nesting.on_credit,
            ipc.PARKED: self._on_parked,
            ipc.UNPARKED: lambda handle, call_id, _body: handle.unpark(call_id),
            ipc.READY: self._on_ready,
            ipc.FAILED: self._on_failed,
            ipc.PONG: self._on_pong,
            ipc.RELEASED: self.owners.released,
            ipc.BROADCAST_DONE: self.broadcasts.answered,
        }

    # --- start and stop ---

    def start(self) -> None:
        """Start the executors."""
        if not self.executors:
            self._ready.set()
        self.crew.start()
        self._ticker = keep_up(self._tick_forever, "pool-watch")

    async def wait_ready(self) -> None:
        """Wait until all executors are, or were, ready at the same time."""
        await self._ready.wait()

    def stop(self, grace: float) -> Awaitable[None]:
        """Settle calls that still wait or run, at once; awaited, stop all executors, killed after ``grace`` seconds."""
        self._stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
        self.replacements.stop()
        self._recovery.stop()
        self.owners.stop()
        for call in self._backlog.drain():
            self._held.release(call)
            call.settle_error(draining_error(maybe_executed=call.maybe_executed))
        for call in [call for handle in self.crew.processes for call in handle.in_flight.values() if not call.settled]:
            call.settle_error(crashed(call, stopping=True))
            self.cancel(call)
        return self.crew.stop(grace)

    @property
    def ready(self) -> bool:
        """Whether all executors are ready now."""
        return all(handle.state == "ready" for handle in self.executors)

    def groups(self) -> list[GroupSeen]:
        """What is seen of each group of executors now."""
        reports, now = self.snapshot(), time.monotonic()
        return [
            GroupSeen(
                group.name,
                reports[group.indexes.start : group.indexes.stop],
                group.methods.values(),
                Standstill(group.executors, self._backlog, now).held,
                self._failed.of(group.name),
                group.own(self.replacements.failures),
                self._backlog.waiting_for(group),
            )
            for group in self._groups
        ]

    @property
    def waiting(self) -> int:
        """How many calls wait for an executor."""
        return self._backlog.waiting

    @property
    def failed_modules(self) -> list[ModuleFailure]:
        """The modules that could not be loaded."""
        return self._failed.all()

    @property
    def methods(self) -> dict[str, MethodInfo]:
        """The catalogue: methods by name."""
        return self._methods

    # --- calls, from the router ---

    @override
    def find(self, method: str) -> MethodInfo:
        if (info := self._methods.get(method)) is None:
            raise self._failed.unknown(method)
        return info

    @override
    def submit(self, call: Call) -> None:
        info = call.info
        assert info is not None
        if self.quarantine.methods and (refusal := self.quarantine.refusal_of(call, time.monotonic())) is not None:
            raise refusal
        if info.routing_key is None:
            route = self._routes.of(call)
            queue, chosen = route.queue, route.choose(info.lane)
        else:
            call.slot = slot_of(self._routes.keys.allowed(info, call))
            queue, chosen = self.owners.choose(call.slot, info.lane)
        if chosen is not None:
            self.dispatch(chosen, call)
        else:
            self._enqueue(call, info, queue)

    @override
    def cancel(self, call: Call) -> None:
        handle = call.executor
        if handle is None:
            self._backlog.remove(call)
            self._held.release(call)
            return
        assert isinstance(handle, ExecutorHandle)
        if call.key in handle.in_flight:
            self.watchdog.expect_end(handle, call, time.monotonic())
            handle.send(ipc.frame(ipc.CANCEL, call.key))

    @override
    def grant(self, call: Call, consumed: int) -> None:
        handle = call.executor
        if isinstance(handle, ExecutorHandle) and call.key in handle.in_flight:
            call.last_activity = time.monotonic()
            handle.send(ipc.frame(ipc.CREDIT, call.key, ipc.credit_body(consumed)))

    @override
    def push(self, call: Call, index: int, data: bytes, final: bool) -> None:
        if call.settled:
            return
        window = open_input(call)
        if not window.accept(index, data, final):
            return
        call.last_activity = time.monotonic()
        body = ipc.input_body(index, final, data)
        handle = call.executor
        if handle is None:
            self._held.hold(window, body)
        elif isinstance(handle, ExecutorHandle):
            handle.push(call, window, body)

    @override
    def dispatch(self, handle: ExecutorHandle, call: Call) -> None:
        assert call.info is not None
        key = call.key = next(self._ids)
        call.executor = handle
        call.attempts += 1
        handle.in_flight[key] = call
        handle.params_bytes += len(call.params)
        handle.owes = True
        handle.lanes[call.info.lane].load += 1
        flags = 0 if call.progress_token is None else ipc.FLAG_PROGRESS
        deadline = NO_DEADLINE if call.idle_timeout else call.deadline
        who = b"" if (caller := call.caller()) is None else caller.encoded
        if self.quotas and caller is not None and call.info.pack == VECTORS_PACK:
            who = who if (own := self.quotas.get(caller.tenant)) is None else with_quotas(who, own)
        method, metadata = call.method.encode(), call.metadata
        handle.send(ipc.call_frame(key, deadline, call.depth, flags, method, metadata, who, call.params))
        if call.input is not None:
            for body in self._held.release(call):
                handle.push(call, call.input, body)

    def _enqueue(self, call: Call, info: MethodInfo, queue: Queue) -> None:
        if self._stopping:
            raise draining_error()
        if isinstance(call, NestedCall) and (handle := self.owners.awaiting(call)) is not None:
            self.dispatch(handle, call)
        else:
            self._backlog.push(call, (info.lane, queue))

    def _refill(self, handle: ExecutorHandle, lane_name: Lane) -> None:
        """Dispatch waiting calls to an executor while its lane has room: calls that only it may run first."""
        if handle.state != "ready" or not self._backlog.waiting:
            return
        while handle.has_room(lane_name) and (call := self._backlog.next(lane_name, handle)) is not None:
            if self.quarantine.methods and (refusal := self.quarantine.refusal_of(call, time.monotonic())) is not None:
                self._held.release(call)
                call.settle_error(refusal)
            else:
                call.waited = time.monotonic() - call.received
                self.dispatch(handle, call)

    @override
    def refill(self, handle: ExecutorHandle) -> None:
        # Called when an executor has become ready, answers again, or owns more slots.
        for lane in handle.lanes:
            self._refill(handle, lane)

    @override
    def kill(self, handle: ExecutorHandle, reason: str) -> None:
        self.crew.kill(handle, reason)

    # --- executors that come and go ---

    def _on_swap(self, old: ExecutorHandle, new: ExecutorHandle) -> None:
        """Move traffic to a process that has taken the place of another; routing keys follow one by one."""
        self.owners.succeed(old, new)
        old.queues = (old.place,)
        self._routes.rebuild()
        if new.state == "ready":
            self._serve(new, old)

    def _serve(self, handle: ExecutorHandle, old: ExecutorHandle | None = None) -> None:
        """Let an executor that is ready have traffic, perhaps that of another, which it has replaced."""
        assert handle.catalogue is not None
        self._group_of[handle.index].update(handle.catalogue)
        self._failed.found(handle, handle.catalogue.failed)
        self._routes.rebuild()
        self._sort(old)
        self.owners.serve_in(self._routes.state)
        if self.ready:
            self._ready.set()
        self._on_change()
        self.owners.ready(handle)
        self.refill(handle)

    def _sort(self, old: ExecutorHandle | None = None) -> None:
        """Move waiting calls to the queues of their methods. Those of methods that only ``old`` serves go there."""
        for call in self._backlog.sort():
            if old is not None and old.serves(call.method):
                self.dispatch(old, call)
            else:
                self._put_back(call)

    # --- frames, from executors ---

    def _take(self, handle: ExecutorHandle, call_id: int, run_us: int) -> Call | None:
        """Remove a call that is over from its executor, and give its slot to the next one; None for an unknown call."""
        call = handle.in_flight.pop(call_id, None)
        if call is None:
            return None
        info = call.info
        assert info is not None
        if handle.overdue:
            handle.overdue.pop(call_id, None)
        if handle.draining:
            self.owners.ended(handle, call_id)
        if handle.idle is not None and not handle.in_flight:
            handle.idle.set()
        handle.last_method = call.method
        handle.params_bytes -= len(call.params)
        lane = handle.lanes[info.lane]
        if not handle.parked or handle.parked.pop(call_id, 0) == 0:
            lane.load -= 1
        call.ran = seconds = run_us / 1e6
        tally = handle.tallies[call.method]
        tally.count += 1
        tally.seconds += seconds
        lane.observe(seconds)
        group = self._group_of[handle.index]
        group.mean_run += (seconds - group.mean_run) * MEAN_SHARE
        if seconds >= SLOW_FROM and (route := self._routes.by_method.get(call.method)) is not None:
            route.observe(handle, seconds)
        if self._backlog.waiting:
            self._refill(handle, info.lane)
        return call

    def _on_result(self, handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        run_us, result = ipc.parse_outcome(body)
        call = self._take(handle, call_id, run_us)
        if call is not None:
            if self.quarantine.methods:
                self.quarantine.survived(call.method, call.params, call.tenant)
            call.settle_result(result)

    def _on_error(self, handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        run_us, error = ipc.parse_outcome(body)
        call = self._take(handle, call_id, run_us)
        if call is not None:
            failure = RpcError.from_wire(msgspec.json.decode(error))
            if call_id in handle.recalled and failure.code == ErrorCode.CANCELLED and not call.settled:
                self._lost([call])
                return
            handle.tallies[call.method].failed += 1
            if failure.code != ErrorCode.CANCELLED:
                self.quarantine.survived(call.method, call.params, call.tenant)
            if not (call.info is not None and call.info.recovery and self._recovery.takes(handle, call, failure)):
                call.settle_error(failure)

    def _on_parked(self, handle: ExecutorHandle, call_id: int, _body: bytes) -> None:
        call = handle.in_flight.get(call_id)
        if call is not None and call.info is not None:
            handle.park(call_id)
            self._refill(handle, call.info.lane)

    def _on_ready(self, handle: ExecutorHandle, _call_id: int, body: bytes) -> None:
        told = _catalogue_decoder.decode(body)
        catalogue = handle.catalogue = self._routes.accept(self._group_of[handle.index], told)
        handle.sources, handle.failed_modules = catalogue.sources, catalogue.failed
        handle.state = "ready"
        handle.ready_since = time.monotonic()
        handle.last_failure = None
        extra = {"executor": handle.name, "pid": handle.pid, "methods": len(catalogue.methods)}
        logger.info("executor ready", extra=extra)
        handle.ping(handle.ready_since)
        if not self.replacements.ready(handle):
            self._serve(handle)

    def _on_pong(self, handle: ExecutorHandle, _call_id: int, _body: bytes) -> None:
        handle.ponged(time.monotonic())
        self.refill(handle)

    def _on_failed(self, handle: ExecutorHandle, _call_id: int, body: bytes) -> None:
        self._failed.nothing_loaded(handle, RpcError.from_wire(msgspec.json.decode(body)))
        self._sort()
        self._on_change()

    # --- faults ---

    def _on_wire_lost(self, handle: ExecutorHandle) -> None:
        """Settle or requeue the calls of an executor whose process is gone or going; the supervisor restarts it."""
        if handle.state in ("ready", "stopping") and not self._stopping:
            handle.state = "down"
        if handle.place != NOWHERE:
            self.owners.wire_lost(handle)
        self.broadcasts.lost(handle)
        self._on_change()
        if not self._stopping:
            count_kill(handle, self.quarantine)
        in_flight, handle.in_flight = handle.in_flight, {}
        handle.overdue.clear()
        if handle.idle is not None:
            handle.idle.set()
        for nested in list(handle.nested.values()):
            nested.abandon()
        handle.nested.clear()
        self._lost((call for call in in_flight.values() if not call.settled), handle.exhausted)

    def _lost(self, calls: Iterable[Call], exhausted: str | None = None) -> None:
        """Queue calls that their executor did not finish again, in their old order, or settle them with an error."""
        again = []
        for call in calls:
            call.executor = None
            if (refusal := self.quarantine.refusal_of(call, time.monotonic())) is not None:
                call.settle_error(refusal)
            elif may_run_again(call) and not self._stopping:
                again.append(call)
            else:
                call.settle_error(crashed(call, stopping=self._stopping, exhausted=exhausted))
        for call in reversed(again):
            assert call.info is not None
            if call.info.routing_key is not None:
                self.owners.put_back(call)
            else:
                self._put_back(call)
        for other in self.executors if again else ():
            if not other.silent:
                self.refill(other)

    def _put_back(self, call: Call) -> None:
        """Queue a call again that any executor of its route may take, as the next one; settle it where none may."""
        try:
            lane = self.find(call.method).lane
            self._backlog.push_front(call, (lane, self._routes.of(call).queue))
        except RpcError as error:
            self._held.release(call)
            error.maybe_executed = call.maybe_executed
            call.settle_error(error)

    def _on_exit(self, handle: ExecutorHandle, cause: str) -> None:
        self._on_wire_lost(handle)
        if handle.place != NOWHERE:
            self.owners.gone(handle)
        self._failed.ended(handle, cause)
        if not self.replacements.ended(handle, cause) and handle.state != "stopping":
            logger.warning("executor exited", extra={"executor": handle.name, "cause": cause})

    async def _tick_forever(self) -> None:
        for tick in itertools.count():
            due = time.monotonic() + QUIET_AFTER
            await asyncio.sleep(QUIET_AFTER)
            self.watchdog.listen(now := time.monotonic(), now - due)
            if tick % LOOK_EVERY:
                continue
            self.watchdog.look(now)
            self._orphans.reap(now, self.crew.pids)
            self.owners.look(now)
            self._routes.forget()

    def running(self) -> dict[str, list[tuple[Call, bool]]]:
        """The calls of each executor, and whether they are parked: waiting without a slot."""
        return running(self.crew)

    def snapshot(self) -> list[ExecutorReport]:
        """The state of each executor, without what its process uses."""
        return reports(self.crew, self.owners.table, time.monotonic())
