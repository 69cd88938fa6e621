"""The gate before a hub that starts: what passes, what waits, in which order."""

from __future__ import annotations

import json

from trunkline.edge.gate import MAX_HELD_BYTES, Gate
from trunkline.hub.principal import ANONYMOUS, PENDING
from trunkline_protocol.codecs.dialect import Deferred


class Hub:
    def __init__(self) -> None:
        self.got: list[str] = []
        self.reasons: list[str] = []
        self.gate = Gate(self, {"rpc.ping", "session.open"}.__contains__, self.reasons.append)

    def receive(self, message: bytes) -> None:
        decoded = json.loads(message)
        self.got.append("batch" if isinstance(decoded, list) else decoded["method"])

    def take(self, deferred: Deferred) -> None:
        raise AssertionError("the gate passes on what it is given")

    def say(self, *methods: str) -> None:
        for method in methods:
            self.gate.receive(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode())


def test_what_the_hub_answers_itself_passes_the_rest_waits_in_order() -> None:
    hub = Hub()
    hub.say("debug.echo", "rpc.ping", "$/cancelRequest", "debug.count")
    hub.gate.receive(b'[{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}]')
    assert hub.got == ["rpc.ping"]
    held = hub.gate.holds
    hub.gate.open()
    assert hub.got == ["rpc.ping", "debug.echo", "$/cancelRequest", "debug.count", "batch"]
    assert (held, hub.gate.holds) == (True, False)
    assert not hub.gate.is_shut_to(ANONYMOUS)


def test_behind_session_open_nothing_overtakes() -> None:
    hub = Hub()
    hub.say("session.open", "rpc.ping")
    assert not hub.got
    hub.gate.open()
    assert hub.got == ["session.open", "rpc.ping"]


def test_who_has_not_authenticated_is_not_held() -> None:
    assert Hub().gate.is_shut_to(ANONYMOUS)
    assert not Hub().gate.is_shut_to(PENDING)


def test_what_waits_is_bounded() -> None:
    hub = Hub()
    hub.say("a", "b")
    assert not hub.reasons
    hub.say("x" * MAX_HELD_BYTES)
    assert hub.reasons == ["starting"]
