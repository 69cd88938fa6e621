"""Calls that wait for an executor: bounded, by priority, without starving the low ones."""

from __future__ import annotations

from collections import OrderedDict

from trunkline_protocol.calls import Call

_TURNS = (0, 0, 0, 1, 0, 0, 1, 2)
"""Who is asked first, turn by turn: of eight turns high leads five, normal two, low one."""


class CallQueue:
    """A queue with three priorities. All operations are O(1); a call can be taken out of the middle."""

    __slots__ = ("_levels", "_turn")

    def __init__(self) -> None:
        self._levels: tuple[OrderedDict[Call, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._turn = 0

    def __len__(self) -> int:
        return len(self._levels[0]) + len(self._levels[1]) + len(self._levels[2])

    def push(self, call: Call) -> None:
        """Put a call at the end of its priority."""
        self._levels[call.priority][call] = None

    def push_front(self, call: Call) -> None:
        """Put a call back that had been taken, ahead of its priority."""
        level = self._levels[call.priority]
        level[call] = None
        level.move_to_end(call, last=False)

    def remove(self, call: Call) -> bool:
        """Take a call out, wherever it stands. False if it was not here."""
        try:
            del self._levels[call.priority][call]
        except KeyError:
            return False
        return True

    def pop(self) -> Call | None:
        """The next call, or None."""
        self._turn = (self._turn + 1) & 7
        first = _TURNS[self._turn]
        for level in (first, 0, 1, 2):
            if self._levels[level]:
                return self._levels[level].popitem(last=False)[0]
        return None

    def drain(self) -> list[Call]:
        """Take everything out, in order."""
        calls = [call for level in self._levels for call in level]
        for level in self._levels:
            level.clear()
        return calls
