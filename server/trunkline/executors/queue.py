"""Calls that wait for an executor: by priority, and within a priority flow by flow in turn.

A flow is one peer's calls. However many of them wait, another flow's next call waits for one of them at most.
"""

from __future__ import annotations

from collections import OrderedDict

from trunkline_protocol.calls import Call

_TURNS = (0, 0, 0, 1, 0, 0, 1, 2)
"""Who is asked first, turn by turn: of eight turns high leads five, normal two, low one."""

_Level = OrderedDict[int, OrderedDict[Call, None]]
"""The calls of one priority by flow; the flow whose turn is next comes first."""


class CallQueue:
    """A queue with three priorities. All operations are O(1); a call can be taken out of the middle."""

    __slots__ = ("_levels", "_size", "_turn")

    def __init__(self) -> None:
        self._levels: tuple[_Level, _Level, _Level] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._size = 0
        self._turn = 0

    def __len__(self) -> int:
        return self._size

    def push(self, call: Call) -> None:
        """Put a call at the end of its flow."""
        self._flow(call)[call] = None
        self._size += 1

    def push_front(self, call: Call) -> None:
        """Put a call back that had been taken: it is the next of its priority."""
        flow = self._flow(call)
        flow[call] = None
        flow.move_to_end(call, last=False)
        self._levels[call.priority].move_to_end(call.flow, last=False)
        self._size += 1

    def _flow(self, call: Call) -> OrderedDict[Call, None]:
        level = self._levels[call.priority]
        flow = level.get(call.flow)
        if flow is None:
            flow = level[call.flow] = OrderedDict()
        return flow

    def remove(self, call: Call) -> bool:
        """Take a call out, wherever it stands. False if it was not here."""
        level = self._levels[call.priority]
        flow = level.get(call.flow)
        if flow is None or call not in flow:
            return False
        del flow[call]
        if not flow:
            del level[call.flow]
        self._size -= 1
        return True

    def pop(self) -> Call | None:
        """The next call, or None."""
        self._turn = (self._turn + 1) & 7
        for priority in (_TURNS[self._turn], 0, 1, 2):
            level = self._levels[priority]
            if level:
                number, flow = next(iter(level.items()))
                call, _ = flow.popitem(last=False)
                if flow:
                    level.move_to_end(number)
                else:
                    del level[number]
                self._size -= 1
                if not self._size:
                    self._turn = 0  # nobody was passed over: begin again with high
                return call
        return None

    def drain(self) -> list[Call]:
        """Take everything out, by priority and flow."""
        calls = [call for level in self._levels for flow in level.values() for call in flow]
        for level in self._levels:
            level.clear()
        self._size = 0
        return calls
