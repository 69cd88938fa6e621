"""Any interleaving of joins, leaves, pushes and what the hub says: every ref is answered once, nothing follows the end
of a channel, and events are whole.

A client with a memory talks to the real dialect in front of the hub in memory, and checks each message that comes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from tests.hub.pubsub import PubSub
from tests.protocol.phoenix import PhoenixPeer
from trunkline_protocol.topics import is_wildcard, matches

TOPICS = ("jobs.a", "jobs.b")
CHANNELS = ("topic:jobs.a", "topic:jobs.b", "topic:jobs.*", "topic:>", "rpc:x", "rpc:y")

channels = st.sampled_from(CHANNELS)
operations = st.one_of(
    st.tuples(st.just("join"), channels, st.none() | st.integers(0, 6) | st.just("gone")),
    st.tuples(st.just("leave"), channels, st.sampled_from(["own", "null", "stale"])),
    st.tuples(st.just("push"), channels, st.sampled_from(["work.do", "work.stream", "publish", "no.such"])),
    st.tuples(st.just("publish"), st.sampled_from(TOPICS), st.integers(1, 4)),
    st.tuples(st.just("settle"), st.integers(0, 3), st.sampled_from(["result", "error", "chunk"])),
    st.tuples(st.just("cancel"), channels, st.none()),
    st.tuples(st.sampled_from(["read", "pause", "resume", "turn", "heartbeat", "duplicate"]), st.none(), st.none()),
)


@dataclass
class Join:
    """One join of a channel, as its client sees it."""

    topic: str
    join_ref: str
    answered: bool = False
    over: bool = False
    positions: dict[str, int] = field(default_factory=dict)

    @property
    def pattern(self) -> str:
        return self.topic.removeprefix("topic:")


class Client:
    """Sends, and checks what comes."""

    def __init__(self, event_limit: int) -> None:
        self.hub = PubSub()
        self.peer = PhoenixPeer(self.hub, event_limit=event_limit)
        self.current: dict[str, Join] = {}
        self.joins: dict[str, Join] = {}
        self.expected: dict[str, int] = {}
        self.last_push: dict[str, str] = {}
        self.duplicates: dict[str, list[str]] = {}
        self.heads = dict.fromkeys(TOPICS, 0)
        self.epoch = ""
        self.refs = 0

    def ref(self) -> str:
        self.refs += 1
        self.expected[str(self.refs)] = 0
        return str(self.refs)

    # --- what it does ---

    def join(self, topic: str, recover: Any) -> None:
        ref = self.ref()
        self.joins[ref] = self.current[topic] = Join(topic, ref)
        payload = {}
        if recover is not None and topic.removeprefix("topic:") in TOPICS:
            head = self.heads[topic.removeprefix("topic:")]
            known = {"epoch": self.epoch, "offset": min(recover, head)} if recover != "gone" and self.epoch else None
            payload = {"recover": known or {"epoch": "gone", "offset": 3}}
        self.peer.send(ref, ref, topic, "phx_join", payload)

    def leave(self, topic: str, how: str) -> None:
        join = self.current.get(topic)
        if how == "stale" and join is not None:
            self.peer.send("0", "stale", topic, "phx_leave", {})
        else:
            self.current.pop(topic, None)
            join_ref = None if join is None or how == "null" else join.join_ref
            self.peer.send(join_ref, self.ref(), topic, "phx_leave", {})

    def push(self, topic: str, event: str) -> None:
        join = self.current.get(topic)
        ref = self.last_push[topic] = self.ref()
        self.peer.send(None if join is None else join.join_ref, ref, topic, event, {"from": "client"})
        if join is not None and event == "publish" and join.pattern in TOPICS:
            self.heads[join.pattern] += 1

    def publish(self, topic: str, times: int) -> None:
        for _ in range(times):
            self.epoch = self.hub.route("publish", topic=topic, data={"n": self.heads[topic]}).result["epoch"]
            self.heads[topic] += 1

    def settle(self, number: int, how: str) -> None:
        running = [call for call in self.peer.backend.calls if not call.settled]
        if number < len(running):
            call = running[number]
            if how == "chunk" and call.method == "work.stream":
                call.stream(b'"data"', b'"x"')
            elif how == "error":
                call.cancel_execution()
            else:
                call.settle_result(b'{"done":true}')

    def cancel(self, topic: str, _: None) -> None:
        if topic in self.current and topic in self.last_push:
            self.peer.send(None, self.ref(), topic, "$/cancelRequest", {"id": self.last_push[topic]})

    def duplicate(self) -> None:
        """A ref that may be in flight, once more: if it is not, this is another push, which is answered, too."""
        for topic, ref in self.last_push.items():
            if topic in self.current and topic.startswith("rpc:"):
                self.peer.flusher.end_of_turn()
                self.read()
                if not self.expected[ref]:
                    self.duplicates.setdefault(topic, []).append(ref)
                    self.peer.send(None, ref, topic, "work.do", {})

    def run(self, name: str, first: Any, second: Any) -> None:
        match name:
            case "read":
                self.read()
            case "pause":
                self.peer.outbox.pause()
            case "resume":
                self.peer.outbox.resume()
            case "turn":
                self.hub.turn()
            case "heartbeat":
                self.peer.send(None, self.ref(), "phoenix", "heartbeat", {})
            case "duplicate":
                self.duplicate()
            case _:
                getattr(self, name)(first, second)

    # --- what it checks ---

    def read(self) -> None:
        for join_ref, ref, topic, event, payload in self.peer.news():
            if event == "phx_reply":
                self.replied(join_ref, ref, topic, payload)
            elif event == "phx_close":
                join = self.joins[join_ref]
                assert ref == join_ref
                assert not join.over
                join.over = True
            elif event == "stream_chunk":
                assert not self.joins[join_ref].over
                assert self.expected[payload["request_id"]] == 0
            else:
                assert (join_ref, ref) == (None, None)
                self.delivered(topic, event, payload)

    def replied(self, join_ref: str | None, ref: str | None, topic: str, payload: Any) -> None:
        if ref is None:
            assert payload["response"]["data"]["duplicate_ref"] == self.duplicates[topic].pop(0)
            return
        assert ref != "stale"
        self.expected[ref] += 1
        assert self.expected[ref] == 1, f"{ref} is answered again"
        join = self.joins.get(join_ref or "")
        if join is None:
            return
        closed = join.answered and join.over
        assert not closed or payload["status"] == "ok", f"{ref} is answered after the end"
        if ref == join_ref:
            join.answered = payload["status"] == "ok"
            join.over = not join.answered
            if join.answered and join.pattern in TOPICS:
                join.positions[join.pattern] = payload["response"]["offset"]

    def delivered(self, channel: str, event: str, payload: Any) -> None:
        live = [join for join in self.joins.values() if join.topic == channel and join.answered and not join.over]
        assert len(live) == 1, f"{event} for {channel}, which has {len(live)} joins"
        join, topic = live[0], payload["topic"]
        assert matches(join.pattern, topic)
        before = join.positions.get(topic)
        if event == "event.gap":
            if payload["reason"] == "epoch":
                assert payload["to"] == before
                return
            assert before is None or payload["from"] <= before + 1
            assert before is None or payload["to"] > before
            join.positions[topic] = payload["to"]
            return
        assert before is None or payload["offset"] == before + 1, f"{payload['offset']} after {before} in {channel}"
        join.positions[topic] = payload["offset"]

    def finish(self) -> None:
        self.peer.outbox.resume()
        for _ in range(3):
            for call in self.peer.backend.calls:
                if not call.settled:
                    call.settle_result(b"{}")
            self.hub.turn()
            self.read()
        assert {ref for ref, count in self.expected.items() if count != 1} == set()
        for topic, join in self.current.items():
            assert join.answered
            assert not join.over
            if topic.startswith("topic:") and not is_wildcard(join.pattern):
                assert join.positions == {join.pattern: self.heads[join.pattern]}
        assert [join for join in self.joins.values() if join not in self.current.values() and not join.over] == []
        wanted = {topic for topic in self.current if topic.startswith("topic:")}
        assert self.hub.topics.count == len(wanted)
        dialect = self.peer.dialect
        assert (dialect._pending, dialect._unsubscribing, dialect._leftovers) == ({}, {}, {})
        assert all(not channel.refs for channel in dialect._channels.values())


async def scenario(steps: list[Any], event_limit: int) -> None:
    client = Client(event_limit)
    for name, first, second in steps:
        client.run(name, first, second)
    client.finish()


@given(st.lists(operations, max_size=60), st.sampled_from([10**6, 800]))
@fuzzing(400)
def test_any_interleaving(steps: list[Any], event_limit: int) -> None:
    asyncio.run(scenario(steps, event_limit))
