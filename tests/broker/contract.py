"""What every broker owes the hub: ``trunkline.broker.base`` as tests.

A broker's own test file subclasses :class:`BrokerContract` and says how one is made::

    class TestMemory(BrokerContract):
        def make(self, limits, clock):
            return MemoryBroker(limits, clock.monotonic, clock.wall)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.timing import PATIENCE
from trunkline.broker.base import Broker, Joined, PatternJoined, PublishKey, Recovery
from trunkline.broker.common import HistoryLimits
from trunkline.broker.keys import REMEMBER_KEY_SECONDS
from trunkline_protocol.errors import RpcError
from trunkline_protocol.events import Event, Position

ANOTHER_EPOCH = Position("another", 3)


class Clock:
    """Both clocks of a broker, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.day = 1_765_432_100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.day

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.day += seconds


class Station:
    """A broker, what it delivered, and its answers to wait for, whether they come at once or later."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self.broker = broker
        self.clock = clock
        self.delivered: list[Event] = []
        broker.start(self.delivered.append)

    def another(self) -> Station:
        """A station at another broker of the same ones."""
        return Station(self.broker.another(), self.clock)

    async def publish(
        self, topic: str = "t", data: bytes = b"1", key: str | None = None, principal: str = "ann"
    ) -> Position:
        used = None if key is None else PublishKey(principal, key)
        position = await _answered(lambda done: self.broker.publish(topic, data, used, done, principal))
        assert isinstance(position, Position)
        return position

    async def publish_many(self, number: int, topic: str = "t") -> None:
        for n in range(number):
            await self.publish(topic, b"%d" % n)

    async def join(self, topic: str = "t", recover: Position | None = None) -> Joined:
        joined = await _answered(lambda done: self.broker.join(topic, recover, done))
        assert isinstance(joined, Joined)
        return joined

    async def join_pattern(self, pattern: str, as_of: Position | None = None, **known: Position) -> PatternJoined:
        """Join a pattern; ``known`` has positions by topic, with ``_`` for dots."""
        named = {topic.replace("_", "."): position for topic, position in known.items()}
        recover = None if as_of is None else Recovery(as_of, named)
        joined = await _answered(lambda done: self.broker.join_pattern(pattern, recover, done))
        assert isinstance(joined, PatternJoined)
        return joined

    async def head(self, topic: str = "t") -> Position:
        return (await self.join(topic)).head

    async def recover_from(self, offset: int, topic: str = "t") -> Joined:
        """Ask for what came after an offset of the current epoch."""
        return await self.join(topic, Position((await self.head(topic)).epoch, offset))


async def _answered(ask: Callable[[Callable[[Any], None]], None]) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answers: list[Any] = []

    def done(answer: Any) -> None:
        answers.append(answer)
        if not future.done():
            future.set_result(answer)

    ask(done)
    answer = await asyncio.wait_for(future, PATIENCE)
    await asyncio.sleep(0)
    assert len(answers) == 1, "answered more than once"
    if isinstance(answer, RpcError):
        raise answer
    return answer


def offsets(joined: Joined) -> list[int]:
    return [event.offset for event in joined.missed]


class BrokerContract:
    """Subclass it, implement :meth:`make`."""

    def make(self, limits: HistoryLimits, clock: Clock) -> Broker:
        raise NotImplementedError

    def station(self, limits: HistoryLimits | None = None) -> Station:
        clock = Clock()
        return Station(self.make(limits or HistoryLimits(), clock), clock)

    @pytest.fixture
    def at(self) -> Station:
        return self.station()

    # --- publish ---

    async def test_offsets_count_from_one_without_holes(self, at: Station) -> None:
        positions = [await at.publish() for _ in range(5)]
        assert [position.offset for position in positions] == [1, 2, 3, 4, 5]
        assert len({position.epoch for position in positions}) == 1
        assert await at.head() == positions[-1]

    async def test_each_event_is_delivered_once_and_in_order(self, at: Station) -> None:
        await at.publish_many(20)
        assert [(event.offset, event.data) for event in at.delivered] == [(n + 1, b"%d" % n) for n in range(20)]

    async def test_an_event_is_what_was_published(self, at: Station) -> None:
        position = await at.publish("jobs.1", b'{"x": [1, "\\u00fc"]}')
        (event,) = at.delivered
        assert (event.topic, event.data, event.epoch) == ("jobs.1", b'{"x": [1, "\\u00fc"]}', position.epoch)
        assert event.published_at == int(at.clock.day * 1000)

    async def test_topics_count_for_themselves(self, at: Station) -> None:
        await at.publish_many(3, "a")
        assert (await at.publish("b")).offset == 1
        assert (await at.publish("a")).offset == 4

    async def test_it_is_answered_when_it_is_stored(self, at: Station) -> None:
        before = await at.head()
        position = await at.publish()
        assert offsets(await at.join("t", Position(position.epoch, before.offset))) == [1]

    async def test_topics_that_spoke_last_are_told_first(self) -> None:
        at = self.station(HistoryLimits(events=2))
        await at.publish_many(3, "a")
        last = await at.publish("b")
        told = list(at.broker.latest())
        assert [(each.topic, each.head.offset, each.kept) for each in told] == [("b", 1, 1), ("a", 3, 2)]
        assert (told[0].head, at.broker.known()) == (last, 2)
        assert told[0].place > told[1].place
        await at.publish("a")
        assert next(at.broker.latest()).topic == "a"

    async def test_what_is_kept_of_a_topic(self) -> None:
        at = self.station(HistoryLimits(seconds=10))
        began = int(at.clock.wall() * 1000)
        await at.publish("a", b'"xxxxxxxxxx"')
        at.clock.pass_by(6)
        await at.publish("a", b'"xxxxxxxxxx"')
        (both,) = at.broker.latest()
        assert (both.kept, both.oldest_at) == (2, began)
        at.clock.pass_by(6)
        (one,) = at.broker.latest()
        assert (one.kept, one.oldest_at, one.kept_bytes) == (1, began + 6000, both.kept_bytes // 2)
        at.clock.pass_by(6)
        (none,) = at.broker.latest()
        assert (none.kept, none.oldest_at, none.kept_bytes, none.head.offset) == (0, None, 0, 2)

    # --- idempotency ---

    async def test_the_same_key_is_the_same_event(self, at: Station) -> None:
        first = await at.publish("t", b"1", "k")
        await at.publish()
        assert await at.publish("t", b"2", "k") == first
        assert [event.data for event in at.delivered] == [b"1", b"1"]
        assert (await at.head()).offset == 2

    async def test_a_key_belongs_to_its_topic(self, at: Station) -> None:
        await at.publish("a", b"1", "k")
        await at.publish("b", b"2", "k")
        await at.publish("a", b"3", "another")
        await at.publish("a", b"4")
        assert [event.data for event in at.delivered] == [b"1", b"2", b"3", b"4"]

    async def test_a_key_belongs_to_its_principal(self, at: Station) -> None:
        await at.publish("t", b"1", "k", "ann")
        await at.publish("t", b"2", "k", "bob")
        await at.publish("t", b"3", "nk", "an")
        await at.publish("t", b"4", "k", "ann")
        assert [event.data for event in at.delivered] == [b"1", b"2", b"3"]

    @pytest.mark.parametrize("principal", ["ann", "bob"])
    async def test_no_key_is_forgotten_for_others(self, at: Station, principal: str) -> None:
        """As many as were forgotten for formerly."""
        first = await at.publish("t", b"1", "k")
        for number in range(10_100):
            at.broker.publish("t", b"2", PublishKey(principal, str(number)), lambda _: None)
        assert await at.publish("t", b"1", "k") == first

    async def test_an_empty_key_is_a_key(self, at: Station) -> None:
        assert await at.publish("t", b"1", "") == await at.publish("t", b"2", "")

    async def test_keys_are_forgotten_in_time_and_not_before(self, at: Station) -> None:
        first = await at.publish("t", b"1", "k")
        at.clock.pass_by(REMEMBER_KEY_SECONDS - 1)
        assert await at.publish("t", b"1", "k") == first, "asking again is no reason to remember it for longer"
        at.clock.pass_by(2)
        assert (await at.publish("t", b"1", "k")).offset == 2
        assert (await at.publish("t", b"1", "k")).offset == 2

    # --- join ---

    async def test_a_topic_nobody_spoke_on(self, at: Station) -> None:
        joined = await at.join("silent")
        assert (joined.position, joined.recovered, joined.missed) == (joined.head, False, ())
        assert joined.head.offset == 0
        assert (await at.publish("silent")) == Position(joined.head.epoch, 1)

    async def test_joining_begins_at_the_head(self, at: Station) -> None:
        await at.publish_many(3)
        joined = await at.join()
        assert (joined.position, joined.recovered, joined.missed) == (joined.head, False, ())
        assert joined.head.offset == 3

    @pytest.mark.parametrize("offset", [0, 1, 4, 5])
    async def test_recover(self, at: Station, offset: int) -> None:
        await at.publish_many(5)
        joined = await at.recover_from(offset)
        assert joined.recovered
        assert joined.position.offset == offset
        assert joined.head.offset == 5
        assert offsets(joined) == list(range(offset + 1, 6))
        assert [event.data for event in joined.missed] == [b"%d" % n for n in range(offset, 5)]

    @pytest.mark.parametrize(("latest", "first"), [(1, 5), (3, 3), (5, 1), (99, 1)])
    async def test_joining_with_the_latest(self, at: Station, latest: int, first: int) -> None:
        await at.publish_many(5)
        joined = await _answered(lambda done: at.broker.join("t", None, done, latest=latest))
        assert joined.recovered
        assert (joined.position.offset, joined.head.offset) == (first - 1, 5)
        assert offsets(joined) == list(range(first, 6))

    async def test_joining_with_the_latest_of_what_is_still_kept(self, at: Station) -> None:
        await at.publish_many(3)
        at.clock.pass_by(10_000)
        joined = await _answered(lambda done: at.broker.join("t", None, done, latest=9))
        assert (joined.position, joined.missed) == (joined.head, ())
        silent = await _answered(lambda done: at.broker.join("silent", None, done, latest=9))
        assert (silent.position, silent.missed) == (silent.head, ())

    async def test_recover_where_nothing_was_said(self, at: Station) -> None:
        head = await at.head()
        joined = await at.join("t", head)
        assert (joined.position, joined.recovered, joined.missed, joined.head) == (head, True, (), head)

    @pytest.mark.parametrize("spoken", [0, 5])
    async def test_recover_of_another_epoch(self, at: Station, spoken: int) -> None:
        await at.publish_many(spoken)
        joined = await at.join("t", ANOTHER_EPOCH)
        assert (joined.position, joined.recovered, joined.missed) == (joined.head, False, ())
        assert joined.head.offset == spoken

    async def test_recover_from_the_future(self, at: Station) -> None:
        await at.publish_many(5)
        joined = await at.recover_from(6)
        assert (joined.position, joined.recovered, joined.missed) == (joined.head, False, ())

    async def test_nothing_is_missing_between_the_answer_and_the_first_event(self, at: Station) -> None:
        await at.publish_many(4)
        joined = await at.recover_from(2)
        before = len(at.delivered)
        await at.publish_many(3)
        seen = offsets(joined) + [event.offset for event in at.delivered[before:]]
        assert seen == [3, 4, 5, 6, 7]

    async def test_events_keep_their_publisher(self, at: Station) -> None:
        await at.publish(principal="ann")
        await at.publish(principal="")
        assert [event.publisher for event in at.delivered] == ["ann", ""]
        assert [event.publisher for event in (await at.recover_from(0)).missed] == ["ann", ""]

    async def test_topics_are_recovered_for_themselves(self, at: Station) -> None:
        await at.publish("a", b'"a"')
        await at.publish("b", b'"b"')
        assert [event.data for event in (await at.recover_from(0, "b")).missed] == [b'"b"']

    # --- how much is kept ---

    async def test_history_has_so_many_events(self) -> None:
        at = self.station(HistoryLimits(events=3))
        await at.publish_many(5)
        assert offsets(await at.recover_from(2)) == [3, 4, 5]
        too_old = await at.recover_from(1)
        assert (too_old.recovered, too_old.missed, too_old.position) == (False, (), too_old.head)

    async def test_history_has_a_length_of_each_topic(self) -> None:
        at = self.station(HistoryLimits(events=3))
        await at.publish_many(3, "a")
        await at.publish_many(3, "b")
        assert offsets(await at.recover_from(0, "a")) == [1, 2, 3]

    async def test_history_has_an_age(self) -> None:
        at = self.station(HistoryLimits(seconds=10))
        await at.publish_many(2)
        at.clock.pass_by(6)
        await at.publish_many(1)
        assert offsets(await at.recover_from(0)) == [1, 2, 3]
        at.clock.pass_by(6)
        assert not (await at.recover_from(1)).recovered
        assert offsets(await at.recover_from(2)) == [3]
        at.clock.pass_by(6)
        assert not (await at.recover_from(2)).recovered
        assert (await at.recover_from(3)).recovered, "who has everything needs no history"
        assert (await at.publish()).offset == 4, "the count goes on"

    @pytest.mark.parametrize("limits", [HistoryLimits(events=0), HistoryLimits(seconds=0), HistoryLimits(bytes=0)])
    async def test_no_history_at_all(self, limits: HistoryLimits) -> None:
        at = self.station(limits)
        await at.publish_many(2)
        assert not (await at.recover_from(1)).recovered
        assert (await at.recover_from(2)).recovered
        assert len(at.delivered) == 2

    # --- patterns ---

    async def test_a_pattern_that_did_not_recover_has_a_place(self) -> None:
        station = self.station()
        before = await station.join_pattern("a.*")
        await station.publish("b.1")
        after = await station.join_pattern("a.*")
        assert (before.recovered, before.topics) == (after.recovered, after.topics) == (False, ())
        assert (after.head.epoch, after.head.offset) == (before.head.epoch, before.head.offset + 1)

    async def test_of_a_pattern_each_topic_comes_after_its_position_and_new_ones_whole(self) -> None:
        station = self.station()
        await station.publish_many(2, "a.old")
        place = (await station.join_pattern("a.*")).head
        known = await station.publish("a.known")
        await station.publish_many(2, "a.new")
        await station.publish("b.1")
        await station.publish("a.known")
        await station.publish("a.old")
        joined = await station.join_pattern("a.*", place, a_known=known)
        assert joined.recovered
        missed = {topic: offsets(at) for topic, at in joined.topics}
        assert missed == {"a.known": [2], "a.new": [1, 2], "a.old": [3]}
        assert all(at.recovered for _, at in joined.topics)
        (again,) = (await station.join_pattern("a.*", joined.head)).topics or ((None, None),)
        assert again == (None, None), "nothing since"

    async def test_of_a_pattern_what_is_not_kept_is_said_topic_by_topic(self) -> None:
        station = self.station(HistoryLimits(events=2))
        await station.publish_many(5, "a.quiet")
        place = (await station.join_pattern("a.*")).head
        await station.publish_many(3, "a.loud")
        await station.publish("a.quiet")
        told = {topic: (at.recovered, offsets(at)) for topic, at in (await station.join_pattern("a.*", place)).topics}
        assert told == {"a.loud": (False, []), "a.quiet": (True, [6])}, "what was dropped of it came before"

    async def test_of_a_pattern_a_place_of_another_run_or_ahead_is_unknown(self) -> None:
        station = self.station()
        place = (await station.join_pattern("a.*")).head
        for wrong in (ANOTHER_EPOCH, Position(place.epoch, place.offset + 1)):
            assert not (await station.join_pattern("a.*", wrong)).recovered

    async def test_of_a_pattern_topics_that_were_forgotten_make_the_place_unknown(self) -> None:
        station = self.station(HistoryLimits(topics=1))
        place = (await station.join_pattern("a.*")).head
        await station.publish("a.1")
        assert (await station.join_pattern("a.*", place)).recovered
        await station.publish("a.2")
        assert not (await station.join_pattern("a.*", place)).recovered

    # --- brokers beside each other ---

    async def test_a_topic_of_another_broker_is_another(self, at: Station) -> None:
        other = at.another()
        await at.publish_many(3)
        assert (await other.head()).offset == 0
        assert (await other.publish("t", b'"other"')).offset == 1
        await at.publish_many(1)
        assert [event.data for event in other.delivered] == [b'"other"']
        assert [event.data for event in (await other.recover_from(0)).missed] == [b'"other"']
        assert offsets(await at.recover_from(0)) == [1, 2, 3, 4]
        assert (at.broker.known(), other.broker.known()) == (1, 1)

    async def test_a_pattern_reaches_no_topic_of_another_broker(self, at: Station) -> None:
        other = at.another()
        place = (await other.join_pattern(">")).head
        await at.publish("a.1")
        assert (await other.join_pattern(">", place)).topics == ()
        await other.publish("a.1")
        ((topic, joined),) = (await other.join_pattern(">", place)).topics
        assert (topic, offsets(joined)) == ("a.1", [1])

    async def test_a_place_that_one_has_told_is_one_of_each(self, at: Station) -> None:
        other = at.another()
        await other.publish("a.before")
        place = (await at.join_pattern("a.*")).head
        await other.publish("a.after")
        joined = await other.join_pattern("a.*", place)
        assert (joined.recovered, [topic for topic, _ in joined.topics]) == (True, ["a.after"])
        assert next(other.broker.latest()).place > place.offset

    async def test_a_place_does_not_count_what_was_published(self, at: Station) -> None:
        told = []
        for number in (0, 1, 100):
            await at.another().publish_many(number)
            at.clock.pass_by(1)
            told.append((await at.join_pattern("a.*")).head.offset)
        assert told[2] - told[1] == told[1] - told[0] > 0

    async def test_brokers_have_their_keys_in_common(self, at: Station) -> None:
        other = at.another()
        first = await at.publish("t", b"1", "k", "ann")
        assert (await other.publish("t", b"2", "k", "acme\nann")).offset == 1
        assert await at.publish("t", b"3", "k", "ann") == first
        assert [event.data for event in at.delivered + other.delivered] == [b"1", b"2"]

    async def test_who_keeps_most_makes_room(self) -> None:
        at = self.station(HistoryLimits(bytes=20_000))
        little = at.another()
        await little.publish_many(2)
        for number in range(50):
            await at.publish(f"t{number % 5}", b"1" * 600)
        await little.publish_many(1)
        assert offsets(await little.recover_from(0)) == [1, 2, 3]
        assert sum(each.kept_bytes for station in (at, little) for each in station.broker.latest()) <= 20_000
        assert offsets(await at.recover_from(9, "t4")) == [10], "what it published last it has"

    async def test_who_has_most_topics_forgets_one(self) -> None:
        at = self.station(HistoryLimits(topics=4))
        little = at.another()
        place = (await little.join_pattern("*")).head
        first = await little.publish("quiet")
        for number in range(9):
            await at.publish(f"t{number}")
        assert await little.head("quiet") == first
        assert (at.broker.known(), little.broker.known()) == (3, 1)
        assert (await little.join_pattern("*", place)).recovered, "it has forgotten nothing"
        assert not (await at.join_pattern("*", place)).recovered

    async def test_after_the_end_of_one_no_place_that_it_could_tell_is_taken_for_one_of_the_next(self) -> None:
        at = self.station(HistoryLimits(topics=1))
        gone = at.another()
        place = (await gone.join_pattern("*")).head
        old = await gone.publish("t")
        await at.publish("t")
        await at.publish("t")
        assert gone.broker.known() == 0, "others had topics to remember"
        gone.broker.end()
        next_one = at.another()
        assert not (await next_one.join_pattern("*", place)).recovered
        assert (await next_one.publish("t")).epoch != old.epoch
