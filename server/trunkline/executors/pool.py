"""The pool: dispatches each call to an executor or queues it, and settles calls with what executors answer.

Rules (SPEC.md, Executors): the caller gets exactly one outcome; a call that was sent to an executor may have run, so
after a crash only idempotent calls that streamed nothing, and got no input, run again; queues are bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline.background import keep_up
from trunkline.executors import ipc
from trunkline.executors.availability import Standstill, report, status_of
from trunkline.executors.endings import crashed, may_run_again
from trunkline.executors.group_backlog import GroupBacklog
from trunkline.executors.groups import SLOW_FROM, ExecutorGroup, GroupSpec, Routes, make_groups
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.handover import HandOverHost, HandOverLimits, KeyOwners
from trunkline.executors.modules import FailedModules
from trunkline.executors.nesting import NestedCall, Nesting
from trunkline.executors.quarantine import Quarantine, QuarantineLimits
from trunkline.executors.queueing import HeldInput, Queue, RoutingKeys, open_input
from trunkline.executors.supervisor import Supervisor
from trunkline.executors.watchdog import Watchdog, suspects_of
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import NO_DEADLINE, Call, CallBackend
from trunkline_protocol.catalogue import Catalogue, Lane, MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError, draining_error
from trunkline_protocol.slots import slot_of

TICK: Final = 0.25

logger = logging.getLogger("trunkline.executors")
_catalogue_decoder: Final = msgspec.json.Decoder(Catalogue)


class ExecutorPool(CallBackend, HandOverHost):
    """All executors, as the one backend that runs calls.

    Args:
        groups: of executors; none make a pool that is always ready and knows no method.
        route_nested: takes the calls that methods make themselves.
        queue_limits: bounds of the queues.
        on_change: called when an executor has changed its state.
        on_figures: called with an executor's index, its process id, and the figures of its methods (JSON).
        kill_after: seconds a call may keep running after its deadline or cancellation before its executor is killed.
        quarantine: when an input that kills executors is refused, and for how long.
        hand_over: limits of handing slots of routing keys over.
    """

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        route_nested: Callable[[Call], None],
        *,
        queue_limits: QueueLimits | None = None,
        kill_after: float = defaults.KILL_AFTER,
        quarantine: QuarantineLimits | None = None,
        hand_over: HandOverLimits | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_figures: Callable[[int, int | None, bytes], None] = lambda _index, _pid, _figures: None,
    ) -> None:
        limits = queue_limits or QueueLimits()
        self._groups = make_groups(groups, self._on_frame, self._on_wire_lost)
        self._group_of = [group for group in self._groups for _ in group.executors]
        self.executors = [handle for group in self._groups for handle in group.executors]
        specs = [group.spec.executor for group in self._group_of]
        self._supervisors = [Supervisor(*each, self._on_exit) for each in zip(self.executors, specs, strict=True)]
        self._on_change = on_change
        self._watchdog = Watchdog(self.executors, kill_after, self.kill)
        self._quarantine = Quarantine(quarantine)
        self._routes = Routes(self._groups)
        self._methods = self._routes.methods
        self._failed = FailedModules(self.executors, self._routes)
        self._keys = RoutingKeys()
        self._backlog = GroupBacklog(self._groups, limits)
        self._held = HeldInput(limits.bytes, self._backlog.hint)
        self.owners = KeyOwners(self.executors, self._backlog, hand_over or HandOverLimits(), self, on_change)
        self._queues = self.owners.table.queues
        self._ids = itertools.count(1)
        self._ticker: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stopping = False
        self._silent: list[ExecutorHandle] = []
        nesting = Nesting(route_nested, self._refill)
        self._frames: dict[int, Callable[[ExecutorHandle, int, bytes], None]] = {
            ipc.RESULT: self._on_result,
            ipc.ERROR: self._on_error,
            ipc.CHUNK: ExecutorHandle.on_chunk,
            ipc.INPUT_CREDIT: ExecutorHandle.on_input_credit,
            ipc.PROGRESS: ExecutorHandle.on_progress,
            ipc.STATS: lambda handle, _call_id, body: on_figures(handle.index, handle.pid, body),
            ipc.NESTED_CALL: nesting.on_call,
            ipc.NESTED_CANCEL: nesting.on_cancel,
            ipc.NESTED_CREDIT: nesting.on_credit,
            ipc.PARKED: self._on_parked,
            ipc.UNPARKED: lambda handle, call_id, _body: handle.unpark(call_id),
            ipc.READY: self._on_ready,
            ipc.FAILED: self._on_failed,
            ipc.PONG: self._on_pong,
            ipc.RELEASED: self.owners.released,
        }

    # --- start and stop ---

    def start(self) -> None:
        """Start the executors."""
        if not self.executors:
            self._ready.set()
        for supervisor in self._supervisors:
            supervisor.start()
        self._ticker = keep_up(self._tick_forever, "pool-watch")

    async def wait_ready(self) -> None:
        """Wait until all executors are, or were, ready at the same time."""
        await self._ready.wait()

    async def stop(self, grace: float) -> None:
        """Stop all executors, killing them after ``grace`` seconds; calls that still wait or run are settled."""
        self._stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
        self.owners.stop()
        for call in self._backlog.drain():
            self._held.release(call)
            call.settle_error(draining_error(maybe_executed=call.maybe_executed))
        await asyncio.gather(*(supervisor.stop(grace) for supervisor in self._supervisors))

    @property
    def ready(self) -> bool:
        """Whether all executors are ready now."""
        return all(handle.state == "ready" for handle in self.executors)

    @property
    def serving(self) -> bool:
        """Whether anything can be served now: an executor answers, and some kind of method makes progress."""
        return not self.executors or any(
            self._standstill(group).serves({info.lane for info in group.methods.values()}) for group in self._groups
        )

    def obstacles(self) -> list[str]:
        """What waits for executors that answer but make no progress, as text."""
        return [f"{group.words}{cause}" for group in self._groups for cause in self._standstill(group).causes]

    def _standstill(self, group: ExecutorGroup) -> Standstill:
        return Standstill(group.executors, self._backlog, time.monotonic(), group.queues)

    @property
    def waiting(self) -> int:
        """How many calls wait for an executor."""
        return self._backlog.waiting

    def waiting_by_group(self) -> dict[str, int]:
        """How many calls wait for each group alone."""
        return self._backlog.by_group()

    @property
    def quarantined(self) -> int:
        """How many inputs are refused now, because they killed executors."""
        return self._quarantine.quarantined(time.monotonic())

    def module_failures(self) -> list[str]:
        """The modules that could not be loaded, as text."""
        return self._failed.words()

    @property
    def methods(self) -> dict[str, MethodInfo]:
        """The catalogue: methods by name."""
        return self._methods

    def follow(self, kill_after: float, quarantine: QuarantineLimits) -> None:
        """Change when executors are killed, and inputs quarantined, from now on."""
        self._watchdog.limit(kill_after)
        self._quarantine.limits = quarantine

    # --- calls, from the router ---

    @override
    def find(self, method: str) -> MethodInfo:
        info = self._methods.get(method)
        if info is None:
            raise self._failed.unknown(method)
        return info

    @override
    def submit(self, call: Call) -> None:
        info = call.info
        assert info is not None
        if self._quarantine.methods and (refusal := self._refusal(call)) is not None:
            raise refusal
        if info.routing_key is None:
            route = self._routes.of(call)
            chosen = route.choose(info.lane, call.received)
            if chosen is not None:
                self._dispatch(chosen, call, info)
            else:
                self._enqueue(call, info, route.queue)
            return
        slot = call.slot = slot_of(self._keys.value(info, call.params))
        queue = self._queues[slot]
        if queue >= 0:
            handle = self.executors[queue]
            lane = handle.lanes[info.lane]
            if handle.state == "ready" and not handle.silent and lane.load < lane.limit:
                self._dispatch(handle, call, info)
                return
        self._enqueue(call, info, queue)

    def _refusal(self, call: Call) -> RpcError | None:
        refusal = self._quarantine.refusal(call.method, call.params, time.monotonic())
        if refusal is not None:
            refusal.maybe_executed = call.maybe_executed
        return refusal

    @override
    def cancel(self, call: Call) -> None:
        handle = call.executor
        if handle is None:
            self._backlog.remove(call)
            self._held.release(call)
            return
        assert isinstance(handle, ExecutorHandle)
        if call.key in handle.in_flight:
            self._watchdog.expect_end(handle, call, time.monotonic())
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

    def _dispatch(self, handle: ExecutorHandle, call: Call, info: MethodInfo) -> None:
        key = call.key = next(self._ids)
        call.executor = handle
        call.attempts += 1
        handle.in_flight[key] = call
        handle.lanes[info.lane].load += 1
        flags = 0 if call.progress_token is None else ipc.FLAG_PROGRESS
        deadline = NO_DEADLINE if call.idle_timeout else call.deadline
        method = call.method.encode()
        handle.send(ipc.call_frame(key, deadline, call.depth, flags, method, call.metadata, call.params))
        if call.input is not None:
            for body in self._held.release(call):
                handle.push(call, call.input, body)

    def _enqueue(self, call: Call, info: MethodInfo, queue: Queue) -> None:
        if self._stopping:
            raise draining_error()
        if isinstance(call, NestedCall) and (handle := self._awaiting(call, queue)) is not None:
            self._dispatch(handle, call, info)
        else:
            self._backlog.push(call, (info.lane, queue))

    def _awaiting(self, call: NestedCall, queue: Queue) -> ExecutorHandle | None:
        """The executor that is to stop, or hand slots over, but has to run this call of its own first; else None."""
        if isinstance(queue, int):
            return self.owners.still_at(call)
        origin = call.made_by
        if isinstance(origin, ExecutorHandle) and origin.state == "stopping" and origin.group in queue:
            others = (handle for handle in self.executors if handle.group in queue)
            return None if any(handle.state == "ready" for handle in others) else origin
        return None

    def _refill(self, handle: ExecutorHandle, lane_name: Lane) -> None:
        """Dispatch waiting calls to an executor while its lane has room: calls that only it may run first."""
        if handle.state != "ready" or not self._backlog.waiting:
            return
        lane = handle.lanes[lane_name]
        group = self._group_of[handle.index]
        while lane.load < lane.limit and (call := self._backlog.next(lane_name, handle.index, group)) is not None:
            assert call.info is not None
            if self._quarantine.methods and (refusal := self._refusal(call)) is not None:
                self._held.release(call)
                call.settle_error(refusal)
            else:
                call.waited = time.monotonic() - call.received
                self._dispatch(handle, call, call.info)

    # --- what hand-overs need (see HandOverHost) ---

    @override
    def refill(self, handle: ExecutorHandle) -> None:
        # Called when an executor has become ready, answers again, or owns more slots.
        for lane in handle.lanes:
            self._refill(handle, lane)

    @override
    def dispatch(self, handle: ExecutorHandle, call: Call) -> None:
        assert call.info is not None
        self._dispatch(handle, call, call.info)

    @override
    def kill(self, handle: ExecutorHandle, reason: str) -> None:
        self._supervisors[handle.index].kill(reason)

    @override
    async def replace(self, handle: ExecutorHandle, grace: float) -> None:
        await self._supervisors[handle.index].replace(grace)

    # --- frames, from executors ---

    def _on_frame(self, handle: ExecutorHandle, kind: int, call_id: int, body: bytes) -> None:
        self._frames[kind](handle, call_id, body)

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
        handle.finished_calls += 1
        handle.last_method = call.method
        lane = handle.lanes[info.lane]
        if handle.parked.pop(call_id, 0) == 0:
            lane.load -= 1
        call.ran = seconds = run_us / 1e6
        lane.observe(seconds)
        group = self._group_of[handle.index]
        group.mean_run += (seconds - group.mean_run) * 0.05
        if seconds >= SLOW_FROM and (route := self._routes.by_method.get(call.method)) is not None:
            route.observe(handle, seconds)
        if self._backlog.waiting:
            self._refill(handle, info.lane)
        return call

    def _on_result(self, handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        run_us, result = ipc.parse_outcome(body)
        call = self._take(handle, call_id, run_us)
        if call is not None:
            if self._quarantine.methods:
                self._quarantine.survived(call.method, call.params)
            call.settle_result(result)

    def _on_error(self, handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        run_us, error = ipc.parse_outcome(body)
        call = self._take(handle, call_id, run_us)
        if call is not None:
            failure = RpcError.from_wire(msgspec.json.decode(error))
            if call_id in handle.recalled and failure.code == ErrorCode.CANCELLED and not call.settled:
                self._lost([call])
                return
            handle.failed_calls += 1
            if failure.code != ErrorCode.CANCELLED:
                self._quarantine.survived(call.method, call.params)
            call.settle_error(failure)

    def _on_parked(self, handle: ExecutorHandle, call_id: int, _body: bytes) -> None:
        call = handle.in_flight.get(call_id)
        if call is not None and call.info is not None:
            handle.park(call_id)
            self._refill(handle, call.info.lane)

    def _on_ready(self, handle: ExecutorHandle, _call_id: int, body: bytes) -> None:
        group = self._group_of[handle.index]
        catalogue = self._routes.learn(group, _catalogue_decoder.decode(body))
        handle.catalogue = catalogue
        handle.state = "ready"
        handle.ready_since = time.monotonic()
        handle.last_failure = None
        self._failed.found(handle, catalogue.failed)
        if self._backlog.state is not self._routes.state:
            self._backlog.state = self._routes.state
            self.owners.serve_in(group.name)
        self._put_back(self._backlog.abandoned())
        extra = {"executor": handle.index, "pid": handle.pid, "methods": len(catalogue.methods)}
        logger.info("executor ready", extra=extra)
        if self.ready:
            self._ready.set()
        self._on_change()
        handle.ping(handle.ready_since)
        if group is self._backlog.state:
            self.owners.ready(handle)
        self.refill(handle)

    def _on_pong(self, handle: ExecutorHandle, _call_id: int, _body: bytes) -> None:
        handle.ponged(time.monotonic())
        self.refill(handle)

    def _on_failed(self, handle: ExecutorHandle, _call_id: int, body: bytes) -> None:
        self._failed.nothing_loaded(handle, RpcError.from_wire(msgspec.json.decode(body)))
        self._put_back(self._backlog.abandoned())
        self._on_change()

    def _put_back(self, calls: Iterable[Call]) -> None:
        """Queue calls again that any executor of their route may take, before others; settle them where none may."""
        for call in calls:
            try:
                lane = self.find(call.method).lane
                self._backlog.push_front(call, (lane, self._routes.of(call).queue))
            except RpcError as error:
                self._held.release(call)
                error.maybe_executed = call.maybe_executed
                call.settle_error(error)

    # --- faults ---

    def _on_wire_lost(self, handle: ExecutorHandle) -> None:
        """Settle or requeue the calls of an executor whose process is gone or going; the supervisor restarts it."""
        if handle.state in ("ready", "stopping") and not self._stopping:
            handle.state = "down"
        self.owners.wire_lost(handle)
        self._on_change()
        if not self._stopping:
            self._count_kill(handle)
        in_flight, handle.in_flight = handle.in_flight, {}
        handle.overdue.clear()
        for nested in list(handle.nested.values()):
            nested.abandon()
        handle.nested.clear()
        self._lost(call for call in in_flight.values() if not call.settled)

    def _count_kill(self, handle: ExecutorHandle) -> None:
        now = time.monotonic()
        for call in suspects_of(handle):
            if self._quarantine.killed(call.method, call.params, now):
                logger.warning("an input of %s killed executors repeatedly and is refused for a while", call.method)

    def _lost(self, calls: Iterable[Call]) -> None:
        """Queue calls that their executor did not finish again, in their old order, or settle them with an error."""
        again = []
        for call in calls:
            call.executor = None
            if (refusal := self._refusal(call)) is not None:
                call.settle_error(refusal)
            elif may_run_again(call) and not self._stopping:
                again.append(call)
            else:
                call.settle_error(crashed(call, stopping=self._stopping))
        for call in reversed(again):
            assert call.info is not None
            if call.info.routing_key is not None:
                self.owners.put_back(call)
            else:
                self._put_back([call])
        for other in self.executors if again else ():
            if not other.silent:
                self.refill(other)

    def _on_exit(self, handle: ExecutorHandle, cause: str) -> None:
        self._on_wire_lost(handle)
        self.owners.gone(handle)
        if not self._stopping:
            logger.warning("executor exited", extra={"executor": handle.index, "cause": cause})

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self._watchdog.look(now)
            self.owners.look(now)
            self._routes.forget()
            silent = [handle for handle in self.executors if status_of(handle, now) == "silent"]
            if silent != self._silent:
                self._silent = silent
                self._on_change()

    def running(self) -> dict[str, list[tuple[Call, bool]]]:
        """The calls of each executor, and whether they are parked: waiting without a slot."""
        return {handle.name: handle.running() for handle in self.executors}

    def snapshot(self) -> list[dict[str, Any]]:
        """The state of each executor, as data."""
        slots, leaving = self.owners.table.counts()
        return [report(handle, slots[handle.index], leaving[handle.index]) for handle in self.executors]
