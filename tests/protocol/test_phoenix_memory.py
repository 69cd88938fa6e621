"""A client that names itself goes on where it was: what it has not confirmed comes again, and nothing is lost."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.hub.pubsub import PubSub
from tests.protocol.phoenix import PhoenixPeer
from trunkline.broker.common import HistoryLimits
from trunkline_protocol.codecs.phoenix_memory import ClientMemories, ClientMemory

NAMES = ("room:*",)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A client that connects again and again; each socket is a new one at the hub."""

    def __init__(self, hub: PubSub, memory: ClientMemory | None = None) -> None:
        self.hub = hub
        self.memory = memory or ClientMemory(8, lambda: None)
        self.connect()

    def connect(self) -> None:
        self.peer = PhoenixPeer(self.hub, names=NAMES, memory=self.memory)

    def cut(self) -> None:
        """The socket is lost, with all that was written and not read."""
        self.peer.news()
        self.hub.topics.forget(self.peer.connection)

    def beat(self) -> list[Any]:
        self.peer.send(None, "h", "phoenix", "heartbeat", {})
        return [message for message in self.peer.news() if message[3] != "phx_reply"]

    def join(self, channel: str = "room:1", payload: Any = None) -> tuple[Any, list[Any]]:
        """The response, and what comes with it."""
        self.peer.send("1", "1", channel, "phx_join", payload or {})
        news = self.peer.news()
        [reply] = [message for message in news if message[3] == "phx_reply"]
        assert reply[4]["status"] == "ok", reply
        return reply[4]["response"], [message for message in news if message[3] != "phx_reply"]


def publish(hub: PubSub, *numbers: int) -> None:
    for number in numbers:
        assert hub.route("publish", topic="room.1", data={"event": "n", "payload": number}).error is None


def numbers(messages: list[Any]) -> list[int]:
    return [message[4] for message in messages if message[3] == "n"]


def test_what_was_published_while_it_was_away_comes_with_the_join() -> None:
    hub = PubSub()
    client = Client(hub)
    assert "repeats" not in client.join()[0]
    publish(hub, 1)
    client.beat()
    client.beat()
    client.cut()
    publish(hub, 2, 3)
    client.connect()
    response, news = client.join()
    assert (response["recovered"], response["repeats"], numbers(news)) == (True, 0, [2, 3])
    publish(hub, 4)
    assert numbers(client.beat()) == [4]


def test_what_was_written_and_not_confirmed_comes_again_and_the_join_says_how_many() -> None:
    hub = PubSub()
    client = Client(hub)
    client.join()
    publish(hub, 1)
    client.beat()
    client.beat()
    publish(hub, 2)
    client.beat()  # its reply may be lost, and 2 with it
    publish(hub, 3)
    client.cut()
    publish(hub, 4)
    client.connect()
    response, news = client.join()
    assert (response["repeats"], numbers(news)) == (2, [2, 3, 4])


def test_a_gap_that_may_not_have_arrived_is_told_again() -> None:
    hub = PubSub(HistoryLimits(events=1))
    client = Client(hub)
    client.join()
    client.cut()
    publish(hub, 1, 2, 3)
    for _ in range(2):
        client.connect()
        response, news = client.join()
        [gap] = [message[4] for message in news if message[3] == "event.gap"]
        assert (response["recovered"], gap["from"], gap["to"]) == (False, 1, 3)
        client.cut()
    client.connect()
    client.join()
    client.beat()
    client.beat()
    client.cut()
    client.connect()
    assert client.join()[0]["recovered"] is True


def test_a_channel_that_was_left_begins_anew_and_so_does_one_that_says_where() -> None:
    hub = PubSub()
    client = Client(hub)
    at = client.join()[0]
    publish(hub, 1)
    client.peer.send("1", "2", "room:1", "phx_leave", {})
    client.peer.news()
    publish(hub, 2)
    response, news = client.join()
    assert (response["recovered"], news) == (False, [])
    client.cut()
    client.connect()
    response, news = client.join(payload={"recover": {"epoch": at["epoch"], "offset": 0}})
    assert ("repeats" in response, numbers(news)) == (False, [1, 2])


def test_patterns_have_no_position_and_topics_of_the_hub_have() -> None:
    hub = PubSub()
    client = Client(hub)
    client.join("topic:room.*")
    client.join("topic:room.1")
    client.cut()
    publish(hub, 1)
    client.connect()
    assert "repeats" not in client.join("topic:room.*")[0]
    assert client.join("topic:room.1")[0]["repeats"] == 0


def test_a_join_that_was_refused_does_not_forget() -> None:
    hub = PubSub(max_subscriptions=1)
    client = Client(hub)
    client.join()
    client.cut()
    publish(hub, 1)
    client.connect()
    client.join("room:2")
    client.peer.send("9", "9", "room:1", "phx_join", {})
    assert client.peer.one()[4]["status"] == "error"
    client.cut()
    client.connect()
    assert numbers(client.join()[1]) == [1]


@pytest.mark.parametrize("seed", range(15))
def test_whatever_is_cut_everything_arrives_and_what_comes_again_is_among_the_repeats(seed: int) -> None:
    """The peer reads a part of what was written before each cut, and the reply to a heartbeat before the next."""
    choose, hub = random.Random(seed), PubSub(HistoryLimits(events=1000))
    client, got, published = Client(hub), [], 0
    client.join()
    for _ in range(30):
        for _ in range(choose.randrange(4)):
            published += 1
            publish(hub, published)
            if choose.random() < 0.4:
                got += numbers(client.beat())
        unread = client.peer.news()
        got += numbers(unread[: choose.randrange(len(unread) + 1)])
        client.cut()
        client.connect()
        response, news = client.join()
        came = numbers(news)
        again = [number for number in came if number in got]
        assert len(again) <= response["repeats"]
        assert came[: len(again)] == again
        got += came
    assert sorted(set(got)) == list(range(1, published + 1))


# --- how long, and how many ---


def memories(of_one: int = 2, of_all: int = 3) -> tuple[ClientMemories, Clock]:
    clock = Clock()
    return ClientMemories(60.0, of_one, of_all, 2, clock), clock


def test_a_client_is_forgotten_some_time_after_it_was_heard_of_last() -> None:
    known, clock = memories()
    memory = known.of(("t", "ann", "tab"))
    clock.now = 50
    memory.heard()
    clock.now = 100
    assert known.of(("t", "ann", "tab")) is memory
    clock.now = 161
    assert known.of(("t", "ann", "tab")) is not memory


def test_names_belong_to_their_principal_and_are_bounded_by_it_and_in_all() -> None:
    known, _ = memories()
    first = known.of(("t", "ann", "1"))
    assert known.of(("t", "bob", "1")) is not first
    assert known.of(("u", "ann", "1")) is not first
    known.of(("t", "ann", "2"))
    assert len(known) == 3
    assert known.of(("t", "ann", "1")) is not first  # it was the oldest of all
    known.of(("t", "ann", "3"))
    assert len(known) <= 3


def test_none_are_kept_where_none_may_be() -> None:
    known, _ = memories(of_one=0)
    assert known.of(("t", "ann", "1")) is not known.of(("t", "ann", "1"))
    assert len(known) == 0


def test_a_client_has_as_many_topics_as_channels() -> None:
    hub = PubSub()
    client = Client(hub, ClientMemory(2, lambda: None))
    for name in ("room:1", "room:2", "room:3"):
        client.join(name)
    assert [client.memory.reader_of(topic) is not None for topic in ("room.1", "room.2", "room.3")] == [
        False, True, True,
    ]  # fmt: skip
