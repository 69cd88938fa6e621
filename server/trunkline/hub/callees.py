"""Callees: the clients that serve a method, and the choice of the one that gets the next call."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from trunkline.hub.connection import Connection
from trunkline.hub.outliers import Standing
from trunkline.hub.principal import Principal
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import Unregistered

MAX_ATTEMPTS: Final = 3

PATIENCE: Final = 1.0
"""Seconds that a callee must have had for a timeout to count as its failure: with less, the deadline was too short."""

Owner = tuple[str, str]
"""Name and tenant of a principal."""


class KeptMethod(msgspec.Struct, frozen=True):
    """A method that clients of ``owner`` serve, for the next hub."""

    info: MethodInfo
    owner: Owner


class Callee:
    """One connection's registration of one method, and the calls that it runs, by the hub's id.

    Attributes:
        is_leaving: the method was unregistered, and calls still run; a new registration makes it false again.
        standing: the callee's record of failures.
        drained: the call that unregisters the method, and is answered when none runs any more; None without one.
    """

    __slots__ = ("connection", "drained", "is_leaving", "limit", "running", "standing")

    def __init__(self, connection: Connection, limit: int) -> None:
        self.connection = connection
        self.limit = limit
        self.is_leaving = False
        self.running: dict[str, Call] = {}
        self.standing = Standing()
        self.drained: Call | None = None

    def tell_drained(self, method: str) -> None:
        """Answer the call that waits for the end of those that run, if there is one."""
        waiting, self.drained = self.drained, None
        if waiting is not None:
            waiting.settle_result(msgspec.json.encode(Unregistered(method, True)))

    @property
    def name(self) -> str:
        """The callee's name in reports of calls."""
        return f"connection {self.connection.number}"

    @property
    def busy(self) -> float:
        """The fraction of its concurrency limit that is in use; from 1.0 on the callee takes no more calls."""
        return len(self.running) / self.limit


class ServedMethod:
    """A registered method and its callees.

    Attributes:
        key: under which it is kept: its name, with the tenant in front where that is not ``default``.
        info: its catalogue entry, under its name.
        routed: the entry that its calls get, under its key.
        owner: the principal of all its callees; nobody else can register the name while they are there or may be back.
        schema_bytes: of the JSON Schemas in its catalogue entry, as they were registered.
    """

    __slots__ = ("_turn", "callees", "info", "key", "owner", "routed", "schema_bytes")

    def __init__(self, key: str, info: MethodInfo, owner: Owner) -> None:
        self.key = key
        self.describe(info, 0)
        self.owner = owner
        self.callees: dict[Connection, Callee] = {}
        self._turn = 0

    def describe(self, info: MethodInfo, schema_bytes: int) -> None:
        """Take over what a registration says of it."""
        self.info, self.schema_bytes = info, schema_bytes
        self.routed = info if self.key == info.name else msgspec.structs.replace(info, name=self.key)

    def require_owner(self, principal: Principal) -> None:
        """Refuse (6002) a principal whose method it is not; whose it is, others are not told."""
        if self.owner != owner_of(principal):
            words = f"method.register: {self.info.name} is served by another principal than {principal.name} of tenant"
            more = "it is free once that has unregistered it, or has been gone for TRUNKLINE_CALLEE_GRACE"
            raise RpcError(ErrorCode.FORBIDDEN, f"{words} {principal.tenant}; {more}")

    def disagreement(self) -> RpcError:
        """The error for who would serve it with other flags than its callees do."""
        words = "is registered already, with other streaming or idempotent: all its callees have to agree"
        return RpcError(ErrorCode.INVALID_PARAMS, f"{self.info.name} {words}")

    def next_callee(self, now: float) -> Callee | None:
        """The least busy callee that is attached, has room and is not ejected; equals take turns. None without one.

        Detached callees get no calls. Ejected ones do only where all attached callees are ejected.
        """
        here = [callee for callee in self.callees.values() if callee.connection.is_attached]
        asked = [callee for callee in here if not callee.standing.is_ejected(now)] or here
        if not asked:
            return None
        first = self._turn % len(asked)
        callee = min(asked[first:] + asked[:first], key=_busy)
        if callee.busy >= 1:
            return None
        self._turn += 1
        return callee

    def answered(self, callee: Callee, code: int, now: float) -> bool:
        """Count a call that has ended, with this code (0: a result). Returns whether the callee is ejected."""
        others = [
            other.standing for other in self.callees.values() if other is not callee and other.connection.is_attached
        ]
        return callee.standing.answered(code, now, others)


def contract(info: MethodInfo) -> tuple[bool, bool]:
    """What all callees of a method have to agree on: whether it streams, and whether it may run twice."""
    return info.streaming, info.idempotent


def may_move(call: Call) -> bool:
    """Whether a call whose callee has disconnected may run at another one: idempotent, no chunks yet, attempts left."""
    idempotent = call.info is not None and call.info.idempotent
    return idempotent and not call.chunks and call.attempts < MAX_ATTEMPTS


def how_cancelled(call: Call, since: float) -> int:
    """The code that a cancelled call counts as, for outlier ejection of its callee.

    A passed deadline is the callee's failure, unless it got the call with hardly any time left.
    """
    now = time.monotonic()
    timed_out = now >= call.deadline and now - since >= PATIENCE
    return ErrorCode.COMMUNICATION_TIMEOUT if timed_out else ErrorCode.CANCELLED


def owner_of(principal: Principal) -> Owner:
    """Whose the methods are that a principal registers."""
    return principal.name, principal.tenant


def _busy(callee: Callee) -> float:
    return callee.busy
