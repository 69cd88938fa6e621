"""Who owns what: never two, nothing lost, in order, whatever happens when."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trunkline.executors.queueing import PoolBacklog
from trunkline.executors.slot_table import HandOverPlan, Move, SlotTable, parked_queue
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.slots import SLOTS

PLACES = 3


def table(places: int, *ready: int) -> SlotTable:
    made = SlotTable(places)
    for place in ready or range(places):
        made.ready(place)
    return made


def spread(made: SlotTable) -> list[int]:
    counts = Counter(made.owners)
    return sorted(counts.values())


@pytest.mark.parametrize("places", [0, 1, 2, 3, 64])
def test_at_first_slots_are_spread_evenly(places: int) -> None:
    made = SlotTable(places)
    assert made.queues == made.owners == [slot % max(1, places) for slot in range(SLOTS)]


def test_fail_over_spreads_what_the_dead_one_had() -> None:
    made = table(3)
    moves = made.gone(1)
    assert {move.source for move in moves} == {1}
    assert sorted(move.slot for move in moves) == [slot for slot in range(SLOTS) if slot % 3 == 1]
    assert spread(made) == [32, 32]
    assert made.queues == made.owners


def test_with_one_executor_nothing_changes() -> None:
    made = table(1)
    assert made.gone(0) == []
    assert made.owners == [0] * SLOTS
    made.ready(0)
    assert made.owners == [0] * SLOTS
    assert made.rebalance({}) is None


def test_a_process_that_was_replaced_owns_its_slots_until_it_hands_them_over() -> None:
    made = table(2)
    kept, moves = made.succeed(1)
    assert kept == 2
    assert moves == [Move(slot, 1, kept) for slot in range(SLOTS) if slot % 2]
    assert made.owned(1) == []
    assert made.is_ready(1)
    assert not made.is_ready(kept)
    assert made.succeeding
    slots = made.owned(kept)
    made.hand_over(HandOverPlan(kept, dict.fromkeys(slots[:30], 1)))
    made.drained()
    made.released()
    assert made.owned(kept) == slots[30:]
    assert made.rebalance({}) is not None, "its place takes part, the old process does not"
    assert made.succeed(1)[0] == 3, "a second one, while the first has slots"
    moves = made.gone(kept)
    assert {move.slot for move in moves} == set(slots[30:])
    assert kept not in made.owners
    assert made.succeed(0)[0] == kept, "its number is free again"


def test_a_process_that_was_replaced_and_ends_with_nobody_ready_keeps_its_number() -> None:
    made = table(1)
    kept, _moves = made.succeed(0)
    made.gone(0)
    assert made.gone(kept) == []
    assert made.owned(kept) == list(range(SLOTS))
    assert made.succeed(0)[0] != kept
    assert {move.slot for move in made.ready(0)} == set(range(SLOTS))


def test_one_that_starts_for_the_first_time_keeps_what_will_be_its() -> None:
    made = table(2, 0)
    assert made.owners == [slot % 2 for slot in range(SLOTS)]
    assert made.gone(1) != [], "but not where it does not even start"
    assert made.owners == [0] * SLOTS


def test_whoever_is_back_first_gets_what_has_no_owner() -> None:
    made = table(2)
    made.gone(0)
    assert made.gone(1) == [], "nobody is there to take it"
    assert {move.target for move in made.ready(0)} == {0}
    assert made.owners == [0] * SLOTS
    assert made.ready(1) == [], "what has an owner is handed over, not taken"


def test_one_that_leaves_gets_nothing_and_keeps_what_it_has() -> None:
    made = table(3)
    made.leaving(2)
    made.gone(1)
    assert Counter(made.owners) == {0: 43, 2: 21}


def test_a_hand_over_step_by_step() -> None:
    made = table(2)
    made.hand_over(HandOverPlan(0, {0: 1, 2: 1}))
    assert made.owners[0] == 0
    assert made.queues[:4] == [parked_queue(0), 1, parked_queue(2), 1]
    made.drained()
    assert made.released() == [Move(0, 0, 1), Move(2, 0, 1)]
    assert made.owners[:4] == made.queues[:4] == [1, 1, 1, 1]
    assert made.moving is None


def test_a_hand_over_that_is_given_up_changes_nothing() -> None:
    made = table(2)
    before = list(made.owners)
    made.hand_over(HandOverPlan(0, {0: 1}))
    assert made.give_up() == [Move(0, 0, 0)]
    assert made.queues == made.owners == before


@pytest.mark.parametrize("releasing", [False, True])
def test_an_owner_that_ends_meanwhile_needs_to_release_nothing(releasing: bool) -> None:
    made = table(3)
    made.hand_over(HandOverPlan(0, {0: 2}))
    if releasing:
        made.drained()
    assert Move(0, 0, 2) in made.gone(0)
    assert made.moving is None
    assert 0 not in made.owners


def test_a_new_owner_that_ends_meanwhile_is_replaced() -> None:
    made = table(3)
    made.hand_over(HandOverPlan(0, {0: 1}))
    made.gone(1)
    made.drained()
    assert made.released() == [Move(0, 0, 0)], "of those that are there it has the fewest"


def test_with_nobody_else_the_slots_wait_for_the_next_process() -> None:
    made = table(1)
    made.leaving(0)
    plan = made.vacate(0, range(SLOTS))
    assert set(plan.targets.values()) == {0}
    made.hand_over(plan)
    made.drained()
    assert made.released()[0] == Move(0, 0, 0)
    assert made.gone(0) == []
    made.ready(0)
    assert made.queues == made.owners == [0] * SLOTS


def level(made: SlotTable, in_flight: dict[int, int]) -> int:
    """Rebalance until it is done; how many hand-overs that took."""
    steps = 0
    while (plan := made.rebalance(in_flight)) is not None:
        made.hand_over(plan)
        made.drained()
        made.released()
        steps += 1
        assert steps <= SLOTS
    return steps


def test_idle_slots_are_levelled_at_once() -> None:
    made = table(3)
    made.gone(1)
    made.ready(1)
    assert level(made, {}) <= 2
    assert spread(made) == [21, 21, 22]
    assert made.rebalance({}) is None, "no thrashing"


def test_busy_slots_go_one_by_one_the_least_busy_first() -> None:
    made = table(2)
    made.gone(1)
    made.ready(1)
    in_flight = dict.fromkeys(range(SLOTS), 5) | {40: 1}
    plan = made.rebalance(in_flight)
    assert plan == HandOverPlan(0, {40: 1})
    in_flight.pop(7)
    assert made.rebalance(in_flight) == HandOverPlan(0, {7: 1})


def test_an_operators_wish_is_kept() -> None:
    made = table(2)
    for slot in range(0, SLOTS, 2):
        plan = made.assign(slot, 1)
        assert plan is not None
        made.hand_over(plan)
        made.drained()
        made.released()
    assert made.assign(0, 1) is None
    assert made.owners == [1] * SLOTS
    level(made, {})
    assert made.owners == [1 if slot % 2 == 0 else 0 for slot in range(SLOTS)], "others make room"
    made.gone(1)
    made.ready(1)
    level(made, {})
    assert all(made.owners[slot] == 1 for slot in range(0, SLOTS, 2)), "they come home"


class Executors(RuleBasedStateMachine):
    """Executors that do what they are told, late or never, with calls of a few slots; some are killed.

    ``open`` is what a process holds: a slot from its first call until it is released, or the process has ended.
    """

    slots = (0, 1, 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(PLACES)
        self.backlog = PoolBacklog(QueueLimits(), lambda: 0)
        self.alive: dict[int, bool] = dict.fromkeys(range(PLACES), False)
        self.open: dict[int, set[int]] = defaultdict(set)
        self.running: dict[int, list[Call]] = defaultdict(list)
        self.accepted: list[Call] = []
        self.ran: dict[int, list[int]] = defaultdict(list)
        self.lost = 0

    def dispatch(self, place: int, call: Call) -> None:
        assert self.alive[place]
        assert all(call.slot not in held for other, held in self.open.items() if other != place), "two owners"
        self.open[place].add(call.slot)
        self.running[place].append(call)
        self.ran[call.slot].append(call.number)

    def apply(self, moves: list[Move]) -> None:
        for queue in {move.source for move in moves} | {parked_queue(move.slot) for move in moves}:
            self.backlog.move(("loop", queue), lambda call: ("loop", self.table.queues[call.slot]))
        self.refill()

    def refill(self) -> None:
        for place in range(PLACES):
            while (
                self.table.is_ready(place)
                and len(self.running[place]) < 2
                and (call := self.backlog.pop(("loop", place))) is not None
            ):
                self.dispatch(place, call)

    @rule(slot=st.sampled_from(slots))
    def call(self, slot: int) -> None:
        call = Call("m", b"")
        call.slot, call.number = slot, len(self.accepted) + 1
        self.accepted.append(call)
        queue = self.table.queues[slot]
        if queue >= 0 and self.table.is_ready(queue) and len(self.running[queue]) < 2:
            self.dispatch(queue, call)
        else:
            self.backlog.push(call, ("loop", queue))

    @rule(place=st.integers(0, PLACES - 1))
    def finish(self, place: int) -> None:
        if self.running[place]:
            self.running[place].pop(0)
            self.refill()

    @rule(place=st.integers(0, PLACES - 1))
    def start(self, place: int) -> None:
        if not self.alive[place]:
            self.alive[place] = True
            self.apply(self.table.ready(place))

    @rule(place=st.integers(0, PLACES - 1))
    def lose_wire(self, place: int) -> None:
        if self.alive[place]:
            self.table.leaving(place)

    @rule(place=st.integers(0, PLACES - 1))
    def kill(self, place: int) -> None:
        if self.alive[place]:
            self.alive[place] = False
            self.lost += len(self.running.pop(place, []))
            self.open.pop(place, None)
            self.apply(self.table.gone(place))

    @precondition(lambda self: self.table.moving is None)
    @rule(slot=st.sampled_from(slots), to=st.integers(0, PLACES - 1), pin=st.booleans())
    def begin(self, slot: int, to: int, pin: bool) -> None:
        source = self.table.owners[slot]
        if self.alive[source] and self.table.is_ready(to):
            plan = self.table.assign(slot, to) if pin else HandOverPlan(source, {slot: to})
            if plan is not None:
                self.park(plan)

    @precondition(lambda self: self.table.moving is None)
    @rule()
    def rebalance(self) -> None:
        in_flight = Counter(call.slot for calls in self.running.values() for call in calls)
        if (plan := self.table.rebalance(in_flight)) is not None:
            self.park(plan)

    @precondition(lambda self: self.table.moving is None)
    @rule(place=st.integers(0, PLACES - 1))
    def vacate(self, place: int) -> None:
        if self.alive[place] and self.table.is_ready(place) and (owned := self.table.owned(place)):
            self.table.leaving(place)
            self.park(self.table.vacate(place, owned))

    def park(self, plan: HandOverPlan) -> None:
        self.table.hand_over(plan)
        self.backlog.move(("loop", plan.source), lambda call: ("loop", self.table.queues[call.slot]))

    @precondition(lambda self: self.table.moving is not None and not self.table.releasing)
    @rule(patient=st.booleans())
    def drain(self, patient: bool) -> None:
        plan = self.table.moving
        assert plan is not None
        if not any(call.slot in plan.targets for call in self.running[plan.source]):
            self.table.drained()
        elif not patient:
            self.apply(self.table.give_up())

    @precondition(lambda self: self.table.releasing)
    @rule()
    def release(self) -> None:
        plan = self.table.moving
        assert plan is not None
        self.open[plan.source] -= plan.targets.keys()
        self.apply(self.table.released())

    @invariant()
    def one_owner(self) -> None:
        held = Counter(slot for slots in self.open.values() for slot in slots)
        assert all(count == 1 for count in held.values())
        for place, calls in self.running.items():
            assert all(self.table.owners[call.slot] == place for call in calls)

    @invariant()
    def in_order_and_none_lost(self) -> None:
        assert all(numbers == sorted(set(numbers)) for numbers in self.ran.values())
        assert sum(map(len, self.ran.values())) + self.backlog.waiting == len(self.accepted)

    @invariant()
    def a_parked_slot_is_being_moved(self) -> None:
        moving = self.table.moving.targets.keys() if self.table.moving is not None else set()
        assert {slot for slot, queue in enumerate(self.table.queues) if queue < 0} == moving

    def teardown(self) -> None:
        """In the end, with all executors there, every call has run."""
        for place in range(PLACES):
            self.kill(place)
        for place in range(PLACES):
            self.start(place)
        for _ in range(len(self.accepted)):
            for place in range(PLACES):
                self.finish(place)
        assert not self.backlog.waiting
        assert sorted(number for numbers in self.ran.values() for number in numbers) == [
            call.number for call in self.accepted
        ]


TestExecutors = Executors.TestCase
TestExecutors.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
