"""Those that serve a method, and which of them gets the next call."""

from __future__ import annotations

from trunkline.hub.connection import Connection
from trunkline.hub.outliers import Standing
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo


class Callee:
    """One connection's registration of one method, and the calls it is working on, by the hub's id.

    Attributes:
        is_leaving: it has unregistered, and is kept for what it works on. If it registers anew it is the same again.
        standing: how it has served lately.
    """

    __slots__ = ("connection", "is_leaving", "limit", "running", "standing")

    def __init__(self, connection: Connection, limit: int) -> None:
        self.connection = connection
        self.limit = limit
        self.is_leaving = False
        self.running: dict[str, Call] = {}
        self.standing = Standing()

    @property
    def name(self) -> str:
        """Who that is, for those who look at calls."""
        return f"connection {self.connection.number}"

    @property
    def busy(self) -> float:
        """How much of what it takes at once it has; from 1 on it has no room."""
        return len(self.running) / self.limit


class ServedMethod:
    """A method and whoever serves it."""

    __slots__ = ("_turn", "callees", "info")

    def __init__(self, info: MethodInfo) -> None:
        self.info = info
        self.callees: dict[Connection, Callee] = {}
        self._turn = 0

    def next_callee(self, now: float) -> Callee | None:
        """The least busy one that is there, has room and is not ejected; of equals each in turn. None if there is none.

        Those that are detached get nothing. Those that are ejected do if nobody else is there, with or without room.
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
        """A call that a callee was given has ended, in this code (0: a result). Returns whether that ejects it."""
        others = [
            other.standing for other in self.callees.values() if other is not callee and other.connection.is_attached
        ]
        return callee.standing.answered(code, now, others)


def _busy(callee: Callee) -> float:
    return callee.busy
