"""The operator's hook where it is a coroutine function: asked for a bounded number of peers, for a bounded time.

Where its answers are cached, the hook is shown the token and nothing else: what it cannot see, its answer cannot depend
on, so that the answer holds for whoever brings the same token. Then peers with one token ask once, also those that come
while the hook still runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from copy import copy
from typing import Final

from trunkline.background import start_task
from trunkline.edge.access import hook as hooks
from trunkline.edge.pending_connections import PendingConnections
from trunkline.hub.principal import AnsweredHandshake, AuthenticateLater, Handshake, HookAnswer, Principal
from trunkline_protocol.errors import ErrorCode, RpcError, draining_error, limit_error

MAX_ASKING: Final = 1024
"""Peers that wait for the hook at a time; where more come, those of the address that has most give way."""

MAX_RUNNING: Final = 2 * MAX_ASKING
"""Runs of the hook at a time, those included that nobody waits for and that do not let themselves be ended."""

MAX_CACHED: Final = 16_384
"""Answers that are cached, those of the tokens that were used last."""

FAILED: Final = "the hub could not authenticate this connection now; try again"

RETRY_MS: Final = 2000
"""The hint of a refusal because the hook failed, or took too long."""


class AsyncHook:
    """Asks a coroutine function for the principals of peers.

    Args:
        hook: the coroutine function.
        seconds: how long one run of it may take.
        cache_seconds: how long an accepted token is accepted again without asking, at most until the principal
            expires; 0 for never. Refusals are not cached.
    """

    def __init__(self, hook: AuthenticateLater, seconds: float, cache_seconds: float = 0.0) -> None:
        self._hook = hook
        self._seconds = seconds
        self._cache_seconds = cache_seconds
        self._cached: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._runs: dict[bytes, _Run] = {}
        self._waiting = PendingConnections(
            MAX_ASKING, "authenticate", "wait for the authenticate hook", "come again in a moment"
        )
        self._running: set[_Run] = set()
        self._stopped = False

    async def answer(self, handshake: Handshake) -> AnsweredHandshake:
        """The handshake, with what the hook says of it; refused with 1001 where it fails, or says nothing in time.

        Cancelled, it ends the run of the hook that nobody else waits for.
        """
        return handshake.answered(await self._answer(handshake))

    async def _answer(self, handshake: Handshake) -> HookAnswer:
        digest = self._digest(handshake.token)
        if digest is not None and (known := self._known(digest)) is not None:
            return known
        try:
            run = self._run_for(handshake, digest)
        except RpcError as refusal:
            return copy(refusal)  # without its traceback, which would make it a cycle
        waiter = _Waiter()
        self._waiting.add(waiter, handshake.peer)
        run.waiters.add(waiter)
        try:
            return await waiter.answer
        finally:
            self._waiting.remove(waiter)
            run.waiters.discard(waiter)
            if not run.waiters:
                self._end(run)

    def _digest(self, token: str | None) -> bytes | None:
        if token is None or not self._cache_seconds:
            return None
        return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

    def _known(self, digest: bytes) -> Principal | None:
        known = self._cached.get(digest)
        if known is None:
            return None
        principal, until = known
        if until <= time.monotonic():
            del self._cached[digest]
            return None
        self._cached.move_to_end(digest)
        return principal

    def _run_for(self, handshake: Handshake, digest: bytes | None) -> _Run:
        """The run of the hook that one more peer waits for: one that has begun, or another one.

        Raises:
            RpcError: 2003, too many wait, most of them from this address; 1001, the hub is stopping.
        """
        if self._stopped:
            raise draining_error()
        self._waiting.make_room(handshake.peer)
        if digest is not None:
            if (begun := self._runs.get(digest)) is not None:
                return begun
            handshake = Handshake("", "", {}, handshake.token)
        if len(self._running) >= MAX_RUNNING:
            raise _not_now("the authenticate hook is still busy with peers that have left")
        run = _Run(digest)
        if digest is not None:
            self._runs[digest] = run
        self._running.add(run)
        run.timer = asyncio.get_running_loop().call_later(self._seconds, self._too_late, run)
        run.task = start_task(self._ask(run, handshake), "authenticate hook")
        run.task.add_done_callback(lambda _task: self._over(run))
        return run

    def _over(self, run: _Run) -> None:
        self._running.discard(run)
        self._finish(run, _not_now(FAILED))  # without effect, unless the hook has ended its task itself

    async def _ask(self, run: _Run, handshake: Handshake) -> None:
        self._finish(run, await self._outcome(handshake))

    async def _outcome(self, handshake: Handshake) -> HookAnswer:
        try:
            return hooks.checked(await self._hook(handshake))
        except RpcError as error:
            return copy(hooks.without_token(error, handshake))
        except Exception as error:
            hooks.report(error)
            return _not_now(FAILED)

    def _too_late(self, run: _Run) -> None:
        hooks.logger.error("the authenticate hook took too long", extra={"seconds": self._seconds})
        self._finish(run, _not_now(f"the hub could not authenticate this connection in {self._seconds:g} s; try again"))

    def _finish(self, run: _Run, answer: HookAnswer) -> None:
        if run.over:
            return
        if isinstance(answer, Principal) and run.digest is not None and self._runs.get(run.digest) is run:
            self._keep(run.digest, answer)
        for waiter in run.waiters:
            waiter.tell(answer)
        self._end(run)

    def _keep(self, digest: bytes, principal: Principal) -> None:
        until = time.monotonic() + self._cache_seconds
        if principal.expires is not None:
            until = min(until, principal.expires)
        self._cached[digest] = principal, until
        self._cached.move_to_end(digest)
        if len(self._cached) > MAX_CACHED:
            self._cached.popitem(last=False)

    def _end(self, run: _Run) -> None:
        """End a run: it has said what it has to say, or nobody waits for it any more."""
        if run.over:
            return
        run.over = True
        if run.digest is not None and self._runs.get(run.digest) is run:
            del self._runs[run.digest]
        if run.timer is not None:
            run.timer.cancel()
        if run.task is not None and run.task is not asyncio.current_task():
            run.task.cancel()

    def clear(self) -> None:
        """Forget all answers. Runs that have begun answer those who wait for them, and nobody who comes later."""
        self._cached.clear()
        self._runs.clear()

    def stop(self) -> None:
        """End all runs, and refuse who waits or comes later (1001): the hub is stopping."""
        self._stopped = True
        for run in tuple(self._running):
            self._finish(run, draining_error())


class _Run:
    """One run of the hook, for all who wait for it."""

    __slots__ = ("digest", "over", "task", "timer", "waiters")

    def __init__(self, digest: bytes | None) -> None:
        self.digest = digest
        self.waiters: set[_Waiter] = set()
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.over = False


class _Waiter:
    """One peer that waits for the hook."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: asyncio.Future[HookAnswer] = asyncio.get_running_loop().create_future()

    def tell(self, answer: HookAnswer) -> None:
        """Give the peer its answer, unless it has one."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def close(self, _code: int, reason: str) -> None:
        """Refuse the peer until later: it makes room for another one."""
        self.tell(limit_error("authenticate", reason))


def _not_now(words: str) -> RpcError:
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, words, maybe_executed=False, retry_after_ms=RETRY_MS)
