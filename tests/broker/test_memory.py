from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.broker.contract import BrokerContract, Clock, Station, offsets
from tests.fuzz.profile import fuzzing
from trunkline.broker.base import Joined
from trunkline.broker.common import HistoryLimits
from trunkline.broker.keys import PublishKeyLimits
from trunkline.broker.memory import EVENT_OVERHEAD, MemoryBroker
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.events import Event, Position

DATA = b"x" * 100
COST = 3 * (len(DATA) + 1) + EVENT_OVERHEAD
"""What one event with this data, on a topic of one letter, counts."""


def memory(limits: HistoryLimits, clock: Clock) -> MemoryBroker:
    return MemoryBroker(limits, clock.monotonic, clock.wall)


def station(**limits: Any) -> tuple[Station, MemoryBroker]:
    clock = Clock()
    broker = memory(HistoryLimits(**limits), clock)
    return Station(broker, clock), broker


class TestContract(BrokerContract):
    def make(self, limits: HistoryLimits, clock: Clock) -> MemoryBroker:
        return memory(limits, clock)


# --- in one process everything is answered at once ---


def test_it_delivers_and_answers_before_it_returns() -> None:
    broker, seen = memory(HistoryLimits(), Clock()), list[Any]()
    broker.start(lambda event: seen.append(event.offset))
    broker.publish("t", b"1", None, seen.append)
    broker.join("t", None, seen.append)
    epoch = seen[1].epoch
    assert seen[:2] == [1, Position(epoch, 1)]
    assert seen[2].head == Position(epoch, 1)


def test_who_publishes_while_an_event_is_delivered_comes_after_it() -> None:
    broker, seen = memory(HistoryLimits(), Clock()), []

    def deliver(event: Event) -> None:
        seen.append((event.topic, event.offset))
        if event.topic == "a" and event.offset < 3:
            broker.publish("a", b"1", None, lambda _: None)

    broker.start(deliver)
    answers: list[Any] = []
    broker.publish("a", b"1", None, answers.append)
    assert seen == [("a", 1), ("a", 2), ("a", 3)]
    assert answers[0].offset == 1, "each publisher hears of its own event"


def test_another_process_is_another_epoch() -> None:
    epochs: list[str] = []

    def joined(answer: Joined | RpcError) -> None:
        assert isinstance(answer, Joined)
        epochs.append(answer.head.epoch)

    for _ in range(2):
        memory(HistoryLimits(), Clock()).join("t", None, joined)
    assert epochs[0] != epochs[1]


# --- bytes ---


async def test_beyond_its_bytes_the_quietest_topic_loses_its_history() -> None:
    at, broker = station(bytes=4 * COST)
    for topic in "aabb":
        await at.publish(topic, DATA)
    assert broker.history_bytes == 4 * COST
    await at.publish("a", DATA)
    assert not (await at.recover_from(0, "b")).recovered
    assert offsets(await at.recover_from(0, "a")) == [1, 2, 3]
    assert broker.history_bytes == 3 * COST


async def test_a_topic_alone_loses_its_oldest() -> None:
    at, broker = station(bytes=3 * COST)
    for _ in range(5):
        await at.publish("a", DATA)
    assert offsets(await at.recover_from(2, "a")) == [3, 4, 5]
    assert broker.history_bytes == 3 * COST


async def test_an_event_larger_than_everything_is_delivered_and_not_kept() -> None:
    at, broker = station(bytes=3 * COST)
    await at.publish("b", DATA)
    await at.publish("a", b"x" * 10_000)
    assert len(at.delivered[1].data) == 10_000
    assert not (await at.recover_from(0, "a")).recovered
    assert broker.history_bytes == 0
    await at.publish("a", DATA)
    assert offsets(await at.recover_from(1, "a")) == [2]
    assert broker.history_bytes == COST


async def test_what_grew_too_old_is_given_back() -> None:
    at, broker = station(seconds=10.0)
    await at.publish("a", DATA)
    at.clock.pass_by(11)
    assert not (await at.recover_from(0, "a")).recovered
    assert broker.history_bytes == 0


# --- topics ---


async def test_beyond_so_many_topics_the_quietest_is_forgotten() -> None:
    at, broker = station(topics=2)
    first = await at.publish("a", DATA)
    await at.publish("b", DATA)
    await at.publish("a", DATA)
    await at.publish("c", DATA)
    assert offsets(await at.recover_from(0, "a")) == [1, 2], "b was quieter"
    assert (await at.head("a")).epoch == first.epoch
    assert broker.history_bytes == 3 * COST


async def test_a_forgotten_topic_begins_a_new_epoch() -> None:
    at, _ = station(topics=1)
    old = await at.publish("a")
    await at.publish("b")
    new = await at.publish("a")
    assert new.offset == old.offset == 1
    assert new.epoch != old.epoch, "its old numbers must not stand for new events"
    for position in (old, Position(old.epoch, 0)):
        joined = await at.join("a", position)
        assert (joined.recovered, joined.position) == (False, new)


async def test_who_joined_a_silent_topic_before_others_were_forgotten_is_told() -> None:
    at, _ = station(topics=1)
    silent = await at.head("a")
    await at.publish("b")
    await at.publish("c")
    await at.publish("a")
    assert not (await at.join("a", silent)).recovered, "another epoch: the hub cannot know that nothing was missed"


def keyed(keys: PublishKeyLimits) -> Station:
    clock = Clock()
    return Station(MemoryBroker(HistoryLimits(), clock.monotonic, clock.wall, keys), clock)


async def test_a_publication_is_refused_rather_than_a_key_forgotten() -> None:
    at = keyed(PublishKeyLimits(keys=100, keys_per_principal=3))
    kept = []
    for number in range(3):
        kept.append(await at.publish("t", b"1", str(number)))
        at.clock.pass_by(10)
    with pytest.raises(RpcError) as refused:
        await at.publish("t", b"1", "3")
    assert (refused.value.code, refused.value.retryable) == (ErrorCode.RESOURCE_EXHAUSTED, True)
    assert refused.value.data["limit"] == "TRUNKLINE_IDEMPOTENCY_KEYS_PER_PRINCIPAL"
    assert not refused.value.maybe_executed
    assert len(at.delivered) == 3
    assert [await at.publish("t", b"1", str(number)) for number in range(3)] == kept
    await at.publish("t", b"1", "3", "bob")
    await at.publish("t", b"1")
    assert refused.value.retry_after_ms is not None
    at.clock.pass_by(refused.value.retry_after_ms / 1000)
    await at.publish("t", b"1", "3")
    assert await at.publish("t", b"1", "1") == kept[1]


async def test_the_keys_of_all_principals_are_bounded() -> None:
    at = keyed(PublishKeyLimits(keys=5, keys_per_principal=2))
    for number in range(5):
        await at.publish("t", b"1", str(number), f"p{number // 2}")
    with pytest.raises(RpcError) as refused:
        await at.publish("t", b"1", "k", "bob")
    assert refused.value.data["limit"] == "TRUNKLINE_IDEMPOTENCY_KEYS"
    assert refused.value.retry_after_ms == 300_001


async def test_a_refusal_names_the_principal_as_its_tenant_does() -> None:
    at = keyed(PublishKeyLimits(keys=100, keys_per_principal=1))
    await at.publish("t", b"1", "0", "acme\nann")
    with pytest.raises(RpcError, match="publish: ann used 1 idempotency keys"):
        await at.publish("t", b"1", "1", "acme\nann")
    await at.publish("t", b"1", "1", "ann")


async def test_keys_that_grew_old_take_no_memory() -> None:
    at = keyed(PublishKeyLimits())
    for number in range(100):
        await at.publish("t", b"1", str(number), f"p{number % 7}")
    at.clock.pass_by(301)
    await at.publish("t", b"1", "k")
    assert isinstance(at.broker, MemoryBroker)
    assert len(at.broker._common.keys) == len(at.broker._common.keys._times) == 1


# --- against a model ---

actions = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("abc"), st.integers(0, 300)),
        st.tuples(st.just("recover"), st.sampled_from("abc"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 8)),
    ),
    max_size=60,
)


@fuzzing(150)
@given(actions, st.integers(1, 5), st.integers(500, 4000), st.integers(2, 3))
async def test_what_is_recovered_is_whole_and_never_more_than_may_be_kept(
    actions: list[tuple[str, str, int]], events: int, size: int, topics: int
) -> None:
    at, broker = station(events=events, seconds=10.0, bytes=size, topics=topics)
    published: dict[tuple[str, str], list[bytes]] = {}
    for action, topic, number in actions:
        if action == "publish":
            data = b"x" * number
            position = await at.publish(topic, data)
            log = published.setdefault((topic, position.epoch), [])
            log.append(data)
            assert position.offset == len(log)
        elif action == "wait":
            at.clock.pass_by(number)
        else:
            head = await at.head(topic)
            joined = await at.join(topic, Position(head.epoch, number))
            log = published.get((topic, head.epoch), [])
            assert head.offset == len(log)
            if joined.recovered:
                assert [event.data for event in joined.missed] == log[number:]
                assert len(joined.missed) <= events
            else:
                assert number != head.offset
                assert (joined.position, joined.missed) == (head, ())
        kept = [event for state in broker._topics.values() for _, event, _ in state.history or ()]
        cost = sum(3 * (len(event.data) + len(event.topic)) + EVENT_OVERHEAD for event in kept)
        assert broker.history_bytes == cost <= size
        assert len(broker._topics) <= topics


def test_what_the_hub_says_of_itself_pushes_out_nobody_elses_events() -> None:
    limits = HistoryLimits(events=10_000, bytes=100 * COST)
    clock = Clock()
    broker = memory(limits, clock)
    seen: list[Any] = []
    broker.publish("t", DATA, None, seen.append)
    for _ in range(500):
        broker.publish("system.requests", DATA, None, lambda _: None)
    broker.join("t", Position(seen[0].epoch, 0), seen.append)
    assert seen[1].recovered
    assert offsets(seen[1]) == [1]
    assert broker.history_bytes <= limits.bytes // 16
