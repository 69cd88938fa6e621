"""A hub's publish and subscribe in memory: peers behind doors, the real broker with clocks moved by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.broker.contract import Clock
from tests.hub.doors import Door, FakeBackend, connection, services
from trunkline.broker.common import HistoryLimits
from trunkline.broker.memory import MemoryBroker
from trunkline.hub.connection import Connection
from trunkline.hub.fanout import Fanout
from trunkline.hub.limits import ConnectionLimits
from trunkline.hub.principal import ANONYMOUS, Principal
from trunkline.hub.router import Router
from trunkline.hub.subscriptions import Subscriptions
from trunkline.hub.topic_spaces import TopicSpaces
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import RpcError
from trunkline_protocol.tenants import SharedNames


class PubSub:
    """The hub.

    Attributes:
        soon: what the fan-out wants to do in the next turn of the loop.
        interest: how often subscriptions to ``system.`` topics have changed.
    """

    def __init__(
        self,
        history: HistoryLimits | None = None,
        shared: tuple[str, ...] = (),
        unsigned: tuple[str, ...] = (),
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.soon: list[Callable[[], None]] = []
        self.interest = 0
        self.finished: list[tuple[str, int]] = []
        self.broker = MemoryBroker(history or HistoryLimits(), self.clock.monotonic, self.clock.wall)
        self.fanout = Fanout(self.soon.append, lambda: 0.0)
        self.limits = ConnectionLimits(**limits)
        self.spaces = TopicSpaces(self.broker, SharedNames(shared))
        self.topics = Subscriptions(self.spaces, self.fanout, self.limits, self._interest, unsigned)
        self.router = Router(FakeBackend(), lambda call, _name, _s, code: self.finished.append((call.method, code)))
        self.router.handle(self.topics.methods())
        self.services = services(self.router, self.limits)
        self.services.closed = self.topics.forget

    def _interest(self) -> None:
        self.interest += 1

    def peer(self, principal: Principal = ANONYMOUS, **door: int) -> Peer:
        return Peer(self, principal, Door(**({"limit": 10**6, "event_limit": 10**6} | door)))

    def route(self, method: str, **params: Any) -> Outcome:
        """A call that no connection made."""
        call = Outcome(method, params)
        self.router.route(call)
        return call

    def turn(self) -> None:
        """The fan-out's next turn."""
        asked, self.soon[:] = list(self.soon), []
        for function in asked:
            function()


class Outcome(Call):
    """A call of the hub itself, or of a method."""

    def __init__(self, method: str, params: Any, depth: int = 1) -> None:
        Call.__init__(self, method, json.dumps(params).encode(), depth=depth)
        self.result: Any = None
        self.error: RpcError | None = None

    def caller(self) -> None:
        return None

    def deliver_result(self, result: bytes) -> None:
        self.result = json.loads(result)

    def deliver_error(self, error: RpcError) -> None:
        self.error = error


class Peer:
    """A connection that remembers how far it has read."""

    def __init__(self, hub: PubSub, principal: Principal, door: Door) -> None:
        self.door = door
        self.connection: Connection = connection(hub.services, door, principal)
        self._read = 0
        self._ids = 0

    def send(self, message: Any) -> None:
        self.connection.receive(json.dumps(message).encode())

    def request(self, method: str, **params: Any) -> None:
        self._ids += 1
        self.send({"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params})

    def notify(self, method: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def news(self) -> list[Any]:
        """What came since the last time: replies whole, of events and gaps the params."""
        said = self.door.said()
        fresh, self._read = said[self._read :], len(said)
        return [message.get("params", message) for message in fresh]

    def events(self) -> list[tuple[str, int]]:
        """Topic and offset of the events among the news."""
        return [(item["topic"], item["offset"]) for item in self.news() if "data" in item]

    def call(self, method: str, **params: Any) -> Any:
        """Call; the reply, which has to be the first that comes."""
        assert self.news() == []
        self.request(method, **params)
        return self.news()[0]

    def result(self, method: str, **params: Any) -> Any:
        reply = self.call(method, **params)
        assert "result" in reply, reply
        return reply["result"]

    def error(self, method: str, **params: Any) -> Any:
        reply = self.call(method, **params)
        assert "error" in reply, reply
        return reply["error"]

    def subscribe(self, topic: str, **recover: Any) -> Any:
        return self.result("subscribe", topic=topic, **({"recover": recover} if recover else {}))

    def unsubscribe(self, topic: str) -> bool:
        unsubscribed: bool = self.result("unsubscribe", topic=topic)["unsubscribed"]
        return unsubscribed
