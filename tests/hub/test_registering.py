"""Who may register which method: patterns, whose a name is, and what executors that still start may have."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typing_extensions import override

from tests.hub.doors import Door, FakeBackend, connection, services
from tests.support.match import require
from trunkline.hub.held_registrations import HELD_SECONDS
from trunkline.hub.principal import ACT_AS, ANONYMOUS, CALLEE, Principal
from trunkline.hub.registrations import Registrations
from trunkline.hub.router import Router
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError

GRACE = 5.0
FORBIDDEN = {"error": {"code": ErrorCode.FORBIDDEN}}


def forbidden(words: str) -> dict[str, Any]:
    return {"error": {"code": ErrorCode.FORBIDDEN, "message": {"$contains": words}}}


pytestmark = pytest.mark.virtual_time


class Executors(FakeBackend):
    """Executors of which it is not known at first what they serve."""

    def __init__(self) -> None:
        super().__init__()
        self.are_starting = False

    @override
    def find(self, method: str) -> MethodInfo:
        if self.are_starting:
            raise RpcError(ErrorCode.WORKER_UNAVAILABLE, f"{method} is not known yet", retry_after_ms=1000)
        return super().find(method)


class Hub:
    def __init__(self) -> None:
        self.executors = Executors()
        self.registrations = Registrations(self.executors, grace=GRACE)
        self.router = Router(self.registrations, lambda *_: None)
        self.router.handle(self.registrations.methods())
        self.services = services(self.router)
        self.services.callees = self.registrations

    def peer(self, principal: Principal) -> Peer:
        return Peer(self, principal)

    def is_known(self) -> None:
        """The executors tell their catalogue."""
        self.executors.are_starting = False
        self.registrations.executors_changed()


class Peer:
    def __init__(self, hub: Hub, principal: Principal) -> None:
        self.door = Door()
        self.connection = connection(hub.services, self.door, principal)
        self._ids = 0

    def ask(self, asked: str, /, **params: Any) -> int:
        self._ids += 1
        request = {"jsonrpc": "2.0", "id": self._ids, "method": asked, "params": params}
        self.connection.receive(json.dumps(request).encode())
        return self._ids

    def answer(self, request: int) -> Any:
        return next((said for said in self.door.said() if said.get("id") == request), None)

    def register(self, name: str, **options: Any) -> Any:
        """The answer; None where there is none yet."""
        return self.answer(self.ask("method.register", method=name, **options))

    def asked(self) -> list[str]:
        """The methods that the hub has asked it for."""
        return [said["method"] for said in self.door.said() if str(said.get("id")).startswith("h:")]


def node(name: str = "node", **more: Any) -> Principal:
    return Principal(name, frozenset({CALLEE}), **more)


@pytest.fixture
async def hub() -> Hub:
    return Hub()


async def test_patterns_say_what_may_be_registered(hub: Hub) -> None:
    peer = hub.peer(node("ann", register=("node.*", "of.{principal}.>"), tenant="acme").named())
    for name in ("node.a", "of.ann.x.y"):
        require({"result": {"method": name}}, peer.register(name))
    for name in ("node.a.b", "of.bob.x", "other"):
        require(forbidden("no pattern of its register reaches it"), peer.register(name))
    require(FORBIDDEN, hub.peer(node(register=())).register("node.b"))
    require(forbidden("role callee"), hub.peer(Principal("x", register=(">",))).register("node.b"))
    require(FORBIDDEN, hub.peer(node(register=(">", "rpc.*"))).register("rpc.mine"))


async def test_a_name_is_its_first_owners_while_one_of_them_is_there(hub: Hub) -> None:
    first, second = hub.peer(node()), hub.peer(node())
    require({"result": {"callees": 1}}, first.register("node.a"))
    require({"result": {"callees": 2}}, second.register("node.a"))
    require({"result": {"callees": 1}}, hub.peer(node(tenant="acme")).register("node.a"))
    for other in (node("other"), ANONYMOUS):
        refused = hub.peer(other).register("node.a")
        require(forbidden("served by another principal than"), refused)
    first.connection.give_up()
    require(FORBIDDEN, hub.peer(node("other")).register("node.a"))
    second.ask("method.unregister", method="node.a")
    require({"result": {"callees": 1}}, hub.peer(node("other")).register("node.a"))


async def test_within_the_grace_it_stays_its_owners(hub: Hub) -> None:
    gone, thief = hub.peer(node()), hub.peer(node("other"))
    gone.register("node.a")
    gone.connection.give_up()
    caller = hub.peer(ANONYMOUS)
    call = caller.ask("node.a")
    require(FORBIDDEN, thief.register("node.a"))
    assert (caller.answer(call), thief.asked()) == (None, []), "what waits for the owner is nobody else's"
    back = hub.peer(node())
    require({"result": {"callees": 1}}, back.register("node.a"))
    assert back.asked() == ["node.a"]
    back.connection.give_up()
    await asyncio.sleep(GRACE + 0.1)  # of virtual time
    require({"result": {"callees": 1}}, thief.register("node.a"))


async def test_the_next_hub_knows_whose_it_was(hub: Hub) -> None:
    hub.peer(node()).register("node.a")
    successor = Hub()
    successor.executors.are_starting = True
    successor.registrations.expect(hub.registrations.kept())
    require(FORBIDDEN, successor.peer(node("other")).register("node.a"))
    require({"result": {"callees": 1}}, successor.peer(node()).register("node.a"))


async def test_before_the_executors_have_told_what_they_have_nothing_is_registered(hub: Hub) -> None:
    hub.executors.are_starting = True
    peer, caller = hub.peer(node()), hub.peer(ANONYMOUS)
    taken, free = (peer.ask("method.register", method=name) for name in ("work.do", "node.a"))
    calls = [caller.ask(name) for name in ("work.do", "node.a")]
    for call in calls:
        require({"error": {"code": ErrorCode.WORKER_UNAVAILABLE}}, caller.answer(call))
    hub.registrations.executors_changed()
    assert (peer.answer(taken), peer.answer(free), peer.asked()) == (None, None, [])
    hub.is_known()
    require(forbidden("method of the executors"), peer.answer(taken))
    require({"result": {"method": "node.a"}}, peer.answer(free))
    caller.ask("work.do")
    assert [call.method for call in hub.executors.calls] == ["work.do"]
    caller.ask("node.a")
    assert peer.asked() == ["node.a"]


async def test_executors_that_take_long_are_told(hub: Hub) -> None:
    hub.executors.are_starting = True
    peer, gone = hub.peer(node()), hub.peer(node())
    held = peer.ask("method.register", method="node.a")
    gone.ask("method.register", method="node.a")
    gone.connection.give_up()
    await asyncio.sleep(HELD_SECONDS / 2)  # of virtual time
    hub.registrations.executors_changed()
    assert peer.answer(held) is None
    await asyncio.sleep(HELD_SECONDS / 2 + 0.1)  # of virtual time
    told = {"code": ErrorCode.WORKER_UNAVAILABLE, "data": {"retryable": True, "maybe_executed": False}}
    require({"error": told}, peer.answer(held))
    hub.is_known()
    assert hub.registrations.infos("default") == [], "neither of them serves it"
    require({"result": {"callees": 1}}, peer.register("node.a"))


async def test_who_may_not_serve_any_more_what_it_serves(hub: Hub) -> None:
    peer = hub.peer(node())
    own = peer.connection
    assert hub.registrations.may_keep(own, Principal("node"))
    peer.register("node.a")
    assert hub.registrations.may_keep(own, node(register=("node.*",)))
    assert not hub.registrations.may_keep(own, node(register=("other.*",)))
    assert not hub.registrations.may_keep(own, Principal("node"))


async def test_names_of_another_tenant_are_unknown_before_a_message_is_read(hub: Hub) -> None:
    hub.peer(node(tenant="acme")).register("node.a")
    gateway = Principal("gate", frozenset({ACT_AS}))
    for who, refused in ((Principal("x"), True), (Principal("x", tenant="acme"), False), (gateway, False)):
        assert (hub.peer(who).connection.refusal_of("node.a") is not None) is refused
        assert hub.peer(who).connection.refusal_of("node.b") is not None


async def test_the_next_hub_knows_in_which_tenant_it_was(hub: Hub) -> None:
    for tenant in ("acme", "bolt"):
        hub.peer(node(tenant=tenant)).register("node.a")
    successor = Hub()
    successor.registrations.expect(hub.registrations.kept())
    caller = successor.peer(Principal("x", tenant="bolt"))
    caller.ask("node.a")
    back = [successor.peer(node(tenant=tenant)) for tenant in ("acme", "bolt")]
    for peer in back:
        require({"result": {"callees": 1}}, peer.register("node.a"))
    assert [peer.asked() for peer in back] == [[], ["node.a"]]
    assert "node.a" not in {info.name for info in successor.registrations.infos("default")}
