"""The call a job makes, as its creator's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from typing_extensions import override

from trunkline.hub.future_call import FutureCall
from trunkline.jobs.job import Created
from trunkline_protocol.errors import ErrorCode, RpcError


class Creator(NamedTuple):
    """Whose job it is."""

    name: str
    roles: frozenset[str]


class Interrupted(Exception):
    """The hub stops: the job goes on when there is one again."""


class JobCall(FutureCall):
    """One attempt of a job. Its outcome is a future.

    Args:
        params: JSON.
        seconds: how long it may take.
        on_progress: gets each report, as JSON.
    """

    __slots__ = ("_creator", "_on_progress")

    def __init__(self, created: Created, params: bytes, seconds: float, on_progress: Callable[[bytes], None]) -> None:
        own = {"progress_token": created.id, "priority": created.priority, "timeout_ms": seconds * 1000}
        FutureCall.__init__(self, created.method, params, msgspec.json.encode(created.metadata | own))
        self._creator = Creator(created.principal, frozenset(created.roles))
        self._on_progress = on_progress

    @override
    def deliver_progress(self, value: bytes) -> None:
        self._on_progress(value)

    @override
    def caller(self) -> Creator:
        return self._creator

    def cancel(self, by: str) -> None:
        """End it, unless it has ended."""
        words = f"{self.method} was cancelled by {by}"
        self.settle_error(RpcError(ErrorCode.CANCELLED, words, maybe_executed=self.maybe_executed))
        self.cancel_execution()

    def interrupt(self) -> None:
        """End it without an outcome, unless it has ended."""
        if not self.settled:
            self.abandon()
            self.future.set_exception(Interrupted())
