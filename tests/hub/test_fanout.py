from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from trunkline.hub.fanout import AT_ONCE, STEP, TURN_SECONDS, Fanout
from trunkline_protocol.events import Event


class Loop:
    """Turns of an event loop, one at a time, on a clock that deliveries move.

    Args:
        cost: seconds that one delivery takes.
    """

    def __init__(self, cost: float = 0.0) -> None:
        self.cost = cost
        self.now = 0.0
        self.soon: list[Callable[[], None]] = []
        self.turns = 0
        self.fanout = Fanout(self.soon.append, lambda: self.now)

    def turn(self) -> None:
        asked, self.soon[:] = list(self.soon), []
        self.turns += 1
        for function in asked:
            function()

    def run(self) -> None:
        while self.soon:
            self.turn()

    def outboxes(self, number: int) -> tuple[Any, ...]:
        return tuple(Inbox(self) for _ in range(number))


class Inbox:
    """An outbox that remembers and takes its time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.quiet = False
        self.got: list[int] = []

    def send_event(self, event: Event) -> None:
        self._loop.now += self._loop.cost
        self.got.append(event.offset)


def event(offset: int, topic: str = "t") -> Event:
    return Event(topic, b"1", "e", offset, 0)


MANY = AT_ONCE + 1


def test_few_are_served_at_once() -> None:
    loop = Loop(cost=1.0)
    outboxes = loop.outboxes(AT_ONCE)
    loop.fanout.deliver(event(1), outboxes)
    assert all(each.got == [1] for each in outboxes)
    assert loop.soon == []
    assert (loop.fanout.backlog, loop.fanout.deliveries) == (0, AT_ONCE)


def test_many_are_served_later() -> None:
    loop = Loop()
    outboxes = loop.outboxes(MANY)
    loop.fanout.deliver(event(1), outboxes)
    assert not any(each.got for each in outboxes)
    assert (loop.fanout.backlog, loop.fanout.deliveries) == (MANY, 0)
    loop.run()
    assert all(each.got == [1] for each in outboxes)
    assert (loop.fanout.backlog, loop.fanout.deliveries) == (0, MANY)


def test_what_comes_later_waits_its_turn_however_few_want_it() -> None:
    loop = Loop(cost=TURN_SECONDS)
    outboxes = loop.outboxes(MANY)
    loop.fanout.deliver(event(1), outboxes)
    loop.fanout.deliver(event(2), outboxes[-1:])
    loop.fanout.deliver(event(3), outboxes)
    assert outboxes[-1].got == []
    assert len(loop.soon) == 1, "one turn is asked for, not one an event"
    loop.run()
    assert outboxes[-1].got == [1, 2, 3]
    assert outboxes[0].got == [1, 3]


def test_few_are_served_at_once_again_when_it_is_done() -> None:
    loop = Loop()
    outboxes = loop.outboxes(MANY)
    loop.fanout.deliver(event(1), outboxes)
    loop.run()
    loop.fanout.deliver(event(2), outboxes[:1])
    assert outboxes[0].got == [1, 2]
    loop.fanout.deliver(event(3), outboxes)
    loop.run()
    assert outboxes[0].got == [1, 2, 3]


def test_a_turn_ends_when_its_time_is_over() -> None:
    loop = Loop(cost=TURN_SECONDS / STEP / 4)
    outboxes = loop.outboxes(STEP * 20)
    loop.fanout.deliver(event(1), outboxes)
    loop.turn()
    served = sum(bool(each.got) for each in outboxes)
    assert 4 * STEP <= served <= 5 * STEP
    assert loop.fanout.backlog == len(outboxes) - served
    assert len(loop.soon) == 1
    assert all(each.got for each in outboxes[:served]), "in the order they were given"
    loop.run()
    assert all(each.got == [1] for each in outboxes)
    assert 4 <= loop.turns <= 6


def test_an_expensive_delivery_still_lets_others_in() -> None:
    loop = Loop(cost=1.0)
    loop.fanout.deliver(event(1), loop.outboxes(STEP * 3))
    loop.run()
    assert loop.turns >= 3, "the clock is looked at after each step"


def test_cheap_events_share_a_turn() -> None:
    loop = Loop(cost=0.0)
    outboxes = loop.outboxes(MANY)
    for number in range(10):
        loop.fanout.deliver(event(number), outboxes)
    loop.run()
    assert loop.turns == 1
    assert outboxes[0].got == list(range(10))


def test_who_leaves_gets_nothing_more_of_that_topic() -> None:
    loop = Loop()
    outboxes = loop.outboxes(MANY)
    loop.fanout.deliver(event(1, "a"), outboxes)
    loop.fanout.deliver(event(2, "b"), outboxes)
    loop.fanout.deliver(event(3, "a"), outboxes)
    loop.fanout.leave(outboxes[5], lambda topic: topic == "b")
    loop.run()
    assert outboxes[5].got == [2]
    assert outboxes[6].got == [1, 2, 3]
    assert loop.fanout.backlog == 0


def test_who_leaves_in_the_middle() -> None:
    loop = Loop(cost=TURN_SECONDS)
    outboxes = loop.outboxes(STEP * 3)
    loop.fanout.deliver(event(1, "a"), outboxes)
    loop.turn()
    for outbox in (outboxes[0], outboxes[-1]):
        loop.fanout.leave(outbox, lambda _: False)
    loop.run()
    assert outboxes[0].got == [1], "it had it already"
    assert outboxes[-1].got == []


def test_who_leaves_and_comes_back_gets_what_came_since() -> None:
    loop = Loop()
    outboxes = loop.outboxes(MANY)
    loop.fanout.deliver(event(1, "a"), outboxes)
    loop.fanout.leave(outboxes[0], lambda _: False)
    loop.fanout.deliver(event(2, "a"), outboxes)
    loop.run()
    assert outboxes[0].got == [2]


def test_leaving_where_nothing_waits() -> None:
    loop = Loop()
    loop.fanout.leave(loop.outboxes(1)[0], lambda _: False)
    assert loop.soon == []


def test_an_event_for_nobody() -> None:
    loop = Loop()
    loop.fanout.deliver(event(1), ())
    assert (loop.soon, loop.fanout.deliveries) == ([], 0)


def test_who_publishes_on_delivery_comes_behind() -> None:
    """An outbox does not, but nothing here forbids it."""
    loop = Loop()
    outboxes = loop.outboxes(MANY)

    class Publisher(Inbox):
        def send_event(self, event_: Event) -> None:
            Inbox.send_event(self, event_)
            if event_.offset == 1:
                loop.fanout.deliver(event(2), outboxes[:1])

    loop.fanout.deliver(event(1), (*outboxes, Publisher(loop)))  # type: ignore[arg-type]
    loop.run()
    assert outboxes[0].got == [1, 2]
    assert loop.fanout.backlog == 0


publications = st.lists(st.tuples(st.integers(1, 150), st.booleans()), max_size=12)


@fuzzing(100)
@given(publications, st.sampled_from([0.0, TURN_SECONDS / 40, TURN_SECONDS]))
def test_everybody_gets_everything_once_and_in_order(publications: list[tuple[int, bool]], cost: float) -> None:
    loop = Loop(cost)
    outboxes = loop.outboxes(150)
    wanted: list[list[int]] = [[] for _ in outboxes]
    for offset, (number, turn) in enumerate(publications):
        loop.fanout.deliver(event(offset), outboxes[:number])
        for each in wanted[:number]:
            each.append(offset)
        if turn:
            loop.turn()
    loop.run()
    assert [each.got for each in outboxes] == wanted
    assert loop.fanout.backlog == 0
    assert loop.fanout.deliveries == sum(number for number, _ in publications)


def test_one_outbox_in_trouble_does_not_keep_the_event_from_the_others(caplog: Any) -> None:
    loop = Loop()
    first, broken, last = loop.outboxes(3)
    broken.quiet = True  # and has no write_payload
    loop.fanout.deliver(event(1), (first, broken, last))
    assert (first.got, last.got) == ([1], [1])
    assert "could not be sent" in caplog.text


def test_a_turn_is_longer_while_nobody_waits_for_a_call() -> None:
    served = []
    for busy in (True, False):
        loop = Loop(cost=0.0001)  # a step takes 3.2 ms
        loop.fanout = Fanout(loop.soon.append, lambda loop=loop: loop.now, lambda busy=busy: busy)  # type: ignore[misc]
        outboxes = loop.outboxes(10 * STEP)
        loop.fanout.deliver(event(1), outboxes)
        loop.turn()
        served.append(sum(bool(each.got) for each in outboxes))
    assert served == [STEP, 2 * STEP]
