"""Decides which executor owns which slot of routing keys. Pure: events in, moves out; no IO, no clock.

A slot has one owner at every moment: the only place that may hold state of its keys. It gets a new owner in two ways.
When its owner's process has ended, and so holds nothing, it goes to another at once (:meth:`SlotTable.gone`). From an
owner that lives it is handed over, many slots together, one hand-over at a time:

=========  ====================================  ============================  =============================
phase      new calls of the slots                what the owner runs of them   goes on with
=========  ====================================  ============================  =============================
parked     wait                                  ends                          ``drained``, or ``give_up``
releasing  wait                                  is over; it lets go           ``released``
=========  ====================================  ============================  =============================

In either phase the owner may end: then :meth:`SlotTable.gone` concludes the hand-over. Places are executors by number,
whatever process is there. A process that was replaced by a newer one gets a place of its own, beyond those of the
executors, where it owns its slots until it has handed them over (:meth:`SlotTable.succeed`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from trunkline_protocol.slots import SLOTS

Presence = Literal["starting", "ready", "leaving", "gone"]
"""The state of a place. ``starting``: for the first time. ``leaving``: it gets no new slots, and may hold state still.
``gone``: its process has ended, and the next one is not ready."""

PARKED: Final = -2


def parked_queue(slot: int) -> int:
    """The number of the queue in which a slot's calls wait while it is handed over: below that of every place."""
    return PARKED - slot


@dataclass(frozen=True, slots=True)
class Move:
    """The calls that wait for a slot move from one place to another; to the same one where the slot stays after all."""

    slot: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class HandOverPlan:
    """A planned hand-over of slots from one place, each to its target place."""

    source: int
    targets: Mapping[int, int]


class SlotTable:
    """The owners of all slots.

    Args:
        places: how many executors there are.

    Attributes:
        owners: by slot, the place that owns it.
        queues: by slot, where its calls go now: the owner's place or, while it is handed over, its parked queue.
        moving: the hand-over that is under way; None without one.
        releasing: whether that hand-over is in its second phase.
        pins: slots that an operator assigned, with their places: rebalancing leaves them there, or moves them back.
    """

    def __init__(self, places: int) -> None:
        self.owners = [slot % max(1, places) for slot in range(SLOTS)]
        self.queues = list(self.owners)
        self.moving: HandOverPlan | None = None
        self.releasing = False
        self.pins: dict[int, int] = {}
        self._size = places
        self._presence: list[Presence] = ["starting"] * places

    def spread(self, places: Sequence[int]) -> None:
        """Give all slots to these places, evenly. Only before any of them is ready, and before any call has a slot."""
        self.owners = [places[slot % len(places)] for slot in range(SLOTS)]
        self.queues[:] = self.owners

    def owned(self, place: int) -> list[int]:
        """The slots that a place owns."""
        return [slot for slot, owner in enumerate(self.owners) if owner == place]

    def counts(self) -> tuple[Counter[int], Counter[int]]:
        """The number of slots each place owns, and how many of them are being handed over."""
        moving = {self.moving.source: len(self.moving.targets)} if self.moving is not None else {}
        return Counter(self.owners), Counter(moving)

    def is_ready(self, place: int) -> bool:
        """Whether a place may get slots."""
        return self._presence[place] == "ready"

    # --- events of executors ---

    def ready(self, place: int) -> list[Move]:
        """Give an executor that is ready the slots whose owners are gone; returns the moves."""
        self._presence[place] = "ready"
        stranded = [slot for slot, owner in enumerate(self.owners) if self._presence[owner] == "gone"]
        return [self._give(slot, place) for slot in stranded]

    def leaving(self, place: int) -> None:
        """Give an executor no new slots: it is to stop, or its wire is closed. It keeps those it has."""
        if self._presence[place] == "ready":
            self._presence[place] = "leaving"

    def succeed(self, place: int) -> tuple[int, list[Move]]:
        """Put a new process at a place; returns the place of the old one, which owns its slots on, and the moves there.

        No hand-over may be under way.
        """
        assert self.moving is None, "one at a time"
        spare = (each for each in range(self._size, len(self._presence)) if self._presence[each] == "gone")
        kept = next((each for each in spare if each not in self.owners), len(self._presence))
        self._presence[kept:] = ["leaving", *self._presence[kept + 1 :]]
        self._presence[place] = "ready"
        return kept, [self._give(slot, kept) for slot in self.owned(place)]

    @property
    def succeeding(self) -> bool:
        """Whether slots are owned by a process that was replaced."""
        return any(owner >= self._size for owner in self.owners)

    def gone(self, place: int) -> list[Move]:
        """Give the slots of an executor whose process has ended to those with the fewest, if any is ready."""
        self._presence[place] = "gone"
        wished: Mapping[int, int] = {}
        if self.moving is not None and self.moving.source == place:
            wished = self._conclude().targets
        moves = [self._give(slot, self._best_for(slot, wished.get(slot))) for slot in self.owned(place)]
        return [move for move in moves if move.source != move.target or move.slot in wished]

    # --- hand-over ---

    def hand_over(self, plan: HandOverPlan) -> None:
        """Begin a hand-over: park its slots. No other may be under way, and the source must own the slots."""
        assert self.moving is None, "one at a time"
        assert all(self.owners[slot] == plan.source for slot in plan.targets)
        self.moving = plan
        self.releasing = False
        for slot in plan.targets:
            self.queues[slot] = parked_queue(slot)

    def drained(self) -> None:
        """Begin the second phase: the owner runs no call of the slots, and may release them. There is no way back."""
        assert self.moving is not None
        self.releasing = True

    def released(self) -> list[Move]:
        """Conclude: the owner has released the slots, which go to their targets, or to others that are ready."""
        plan = self._conclude()
        return [self._give(slot, self._best_for(slot, wished)) for slot, wished in plan.targets.items()]

    def give_up(self) -> list[Move]:
        """Give the hand-over up: the owner keeps the slots. Possible in the first phase only."""
        assert not self.releasing
        plan = self._conclude()
        return [self._give(slot, plan.source) for slot in plan.targets]

    def _conclude(self) -> HandOverPlan:
        plan, self.moving, self.releasing = self.moving, None, False
        assert plan is not None
        return plan

    def _give(self, slot: int, place: int) -> Move:
        move = Move(slot, self.owners[slot], place)
        self.owners[slot] = self.queues[slot] = place
        return move

    # --- plans ---

    def assign(self, slot: int, place: int) -> HandOverPlan | None:
        """Pin a slot to a place; returns the hand-over for that, None where the place owns the slot already."""
        self.pins[slot] = place
        owner = self.owners[slot]
        return None if owner == place else HandOverPlan(owner, {slot: place})

    def vacate(self, place: int, slots: Iterable[int]) -> HandOverPlan:
        """The hand-over of slots of a place to the others, evenly; to itself where there are no others."""
        counts = self._counts()
        counts.pop(place, None)
        targets = {}
        for slot in slots:
            target = min(counts, key=lambda each: (counts[each], each), default=place)
            targets[slot] = target
            if target != place:
                counts[target] += 1
        return HandOverPlan(place, targets)

    def rebalance(self, in_flight: Mapping[int, int]) -> HandOverPlan | None:
        """The next hand-over that balances the load; None where it is balanced, or another hand-over is under way.

        Args:
            in_flight: the number of running calls, by slot; slots without any are not in it. Those move first, many at
                once; where all are busy, the one with the fewest calls moves.
        """
        counts = self._counts()
        if self.moving is not None or len(counts) < 2:
            return None
        return self._homecoming(counts) or self._levelling(counts, in_flight)

    def _homecoming(self, counts: Mapping[int, int]) -> HandOverPlan | None:
        for slot, home in self.pins.items():
            owner = self.owners[slot]
            if owner != home and owner in counts and home in counts:
                return HandOverPlan(owner, {slot: home})
        return None

    def _levelling(self, counts: dict[int, int], in_flight: Mapping[int, int]) -> HandOverPlan | None:
        free = {place: [slot for slot in self.owned(place) if slot not in self.pins] for place in counts}
        source = max((place for place in counts if free[place]), key=lambda place: counts[place], default=None)
        if source is None:
            return None
        movable = free[source]
        idle = [slot for slot in movable if slot not in in_flight]
        targets = {}
        for slot in idle or [min(movable, key=lambda slot: in_flight[slot])]:
            target = min(counts, key=lambda place: counts[place])
            if counts[source] - counts[target] < 2:
                break
            targets[slot] = target
            counts[source] -= 1
            counts[target] += 1
        return HandOverPlan(source, targets) if targets else None

    def _counts(self) -> dict[int, int]:
        """The number of slots that each ready place owns."""
        counts = {place: 0 for place, presence in enumerate(self._presence) if presence == "ready"}
        for owner in self.owners:
            if owner in counts:
                counts[owner] += 1
        return counts

    def _best_for(self, slot: int, wished: int | None) -> int:
        """The place for a slot: the wished, the pinned, or that with the fewest slots; the owner if none is ready."""
        for place in (wished, self.pins.get(slot)):
            if place is not None and self.is_ready(place):
                return place
        counts = self._counts()
        return min(counts, key=lambda place: (counts[place], place), default=self.owners[slot])
