"""Every method of the hub's table, tried by a principal of one tenant on what another tenant's of the same name has."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.hub.tenants import as_one_of, hub_of_tenants
from tests.hub.walls import DOORS, SECRET, Names, Trial, Trials, asked, over_http, over_websocket, require_apart, tried
from tests.support import jobs
from tests.support.peer import Peer
from tests.support.timing import until
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.hub_methods import METHODS

in_module = pytest.mark.asyncio(loop_scope="module")


def nothing(_made: Names) -> dict[str, Any]:
    return {}


TRIALS: Final[Trials] = {
    "auth": "names a token, and who has that is its principal",
    "session.open": Trial(lambda made: {"resume": {"session": made["session"], "received": 0}}, door="websocket"),
    "session.close": "ends the session of the connection that calls it",
    "subscribe": Trial(lambda made: {"topic": made["topic"], "history": 5}, door="websocket"),
    "unsubscribe": Trial(lambda made: {"topic": made["topic"]}, door="websocket"),
    "history": Trial(lambda made: {"topic": made["topic"]}),
    "publish": Trial(lambda made: {"topic": made["topic"], "data": 1, "idempotency_key": "k"}),
    "method.register": Trial(lambda made: {"method": made["method"], "streaming": True}, door="websocket"),
    "method.unregister": Trial(lambda made: {"method": made["method"]}, door="websocket"),
    "rpc.ping": Trial(nothing),
    "rpc.discover": Trial(nothing),
    "health.check": Trial(nothing, compared=False),
    "health.detailed": Trial(nothing, compared=False),
    "system.info": Trial(nothing, compared=False),
    "metrics.get": Trial(lambda _made: {"series": True}, compared=False),
    "pipeline.initialize": Trial(lambda _made: {"technique": "basic", "config": {}}),
    "pipeline.list": Trial(nothing, compared=False),
    "pipeline.get": Trial(lambda made: {"pipeline_id": made["pipeline"]}),
    "pipeline.destroy": Trial(lambda made: {"pipeline_id": made["pipeline"]}),
    "conversations.create": Trial(lambda _made: {"title": "bolt's"}),
    "conversations.get": Trial(lambda made: {"conversation_id": made["conversation"]}),
    "conversations.list": Trial(nothing, compared=False),
    "conversations.append": Trial(lambda made: {"conversation_id": made["conversation"], "question": "bolt's"}),
    "conversations.answer": Trial(
        lambda made: {"conversation_id": made["conversation"], "turn": 2, "status": "failed"}
    ),
    "conversations.export": (
        Trial(nothing, compared=False),
        Trial(lambda _made: {"tenant": "acme"}),
    ),
    "conversations.delete": (
        Trial(lambda made: {"conversation_id": made["conversation"]}),
        Trial(lambda _made: {"conversation_id": "*"}, compared=False),
    ),
    "rag.feedback": (
        Trial(lambda made: {"conversation_id": made["conversation"], "turn": 1, "rating": "down"}),
        Trial(lambda made: {"answer_id": made["answer"], "rating": "down"}),
    ),
    "rag.unanswered": (Trial(nothing, compared=False), Trial(lambda _made: {"tenant": "acme"})),
    "jobs.create": Trial(
        lambda made: {"method": "work.keep", "params": {"note": "bolt's"}, "idempotency_key": made["key"]}
    ),
    "jobs.get": Trial(lambda made: {"id": made["job"]}),
    "jobs.list": Trial(lambda _made: {"limit": 1}, compared=False),
    "jobs.cancel": Trial(lambda made: {"id": made["waiting job"]}),
}
"""Of those that take no role admin: these are refused to everybody else, which is tried from the table itself."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mock(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MockHub]:
    folder: Path = tmp_path_factory.mktemp("tenants")
    async with hub_of_tenants(folder, executors=0, jobs_at_once=1, max_pipelines_per_principal=500) as mock:
        mock.method("work.keep", lambda note: note, idempotent=True)
        mock.method("work.hold", hold, idempotent=True)
        mock.method("rag.check", lambda technique, config: None)
        yield mock


async def hold(note: str) -> str:
    """Ends when the hub does, or its call is cancelled."""
    await asyncio.Event().wait()
    return note


class Acme:
    """What ann of acme has made, and what she is told of it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.names: dict[str, str] = {}

    async def make(self, number: int) -> None:
        """Make one of everything, under names that nobody had before."""
        ann, names = self.peer, self.names
        names["session"] = (await ann.result("session.open"))["session"]
        names |= {"topic": f"acme{number}.news.a", "method": f"acme{number}.price", "key": f"acme{number} key"}
        await ann.result("publish", {"topic": names["topic"], "data": SECRET, "idempotency_key": "k"})
        await ann.result("method.register", {"method": names["method"], "summary": SECRET})
        config = {"options": {"collection": SECRET}}
        names["pipeline"] = await ann.result("pipeline.initialize", {"technique": "basic", "config": config})
        done = {"method": "work.keep", "params": {"note": SECRET}, "idempotency_key": names["key"]}
        names["job"] = (await ann.result("jobs.create", done))["id"]
        await jobs.until(ann, names["job"], "succeeded")
        talk = await ann.result("conversations.create", {"title": SECRET})
        names["conversation"] = talk["conversation_id"]
        place = {"conversation_id": names["conversation"]}
        asked = await ann.result("conversations.append", place | {"question": SECRET})
        names["answer"] = asked["answer_id"]
        await ann.result("conversations.answer", place | {"turn": 1, "status": "answered", "answer": SECRET})
        await ann.result("conversations.append", place | {"question": f"and {SECRET}?"})
        held = {"method": "work.hold", "params": {"note": SECRET}}
        names["waiting job"] = (await ann.result("jobs.create", held))["id"]

        async def runs() -> bool:
            return bool((await ann.result("jobs.get", {"id": names["waiting job"]}))["attempts"])

        await until(runs, "it has been handed to the executor: nothing of it changes any more")

    async def told(self) -> list[Any]:
        """What she is told of all of it now."""
        names = self.names
        found = await asked(
            self.peer,
            [
                ("history", {"topic": names["topic"]}),
                ("pipeline.list", {}),
                ("pipeline.get", {"pipeline_id": names["pipeline"]}),
                ("jobs.get", {"id": names["job"]}),
                ("jobs.get", {"id": names["waiting job"]}),
                ("jobs.list", {"limit": 200}),
                ("conversations.get", {"conversation_id": names["conversation"]}),
                ("conversations.list", {}),
                ("rag.unanswered", {}),
                ("subscribe", {"topic": names["topic"]}),
            ],
        )
        served = (await self.peer.result("rpc.discover"))["methods"]
        return [*found, [each for each in served if each["name"] == names["method"]]]


_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="module")
async def acme(mock: MockHub) -> AsyncIterator[Acme]:
    async with as_one_of(mock, "acme") as peer:
        acme = Acme(peer)
        await acme.make(next(_numbers))
        yield acme
        await peer.result("jobs.cancel", {"id": acme.names["waiting job"]})
        await peer.result("session.close")


@in_module
@pytest.mark.parametrize(("method", "trial", "door"), tried(TRIALS))
async def test_it_tells_and_changes_nothing(mock: MockHub, acme: Acme, method: str, trial: Trial, door: str) -> None:
    await require_apart(mock, door, method, trial, acme.names, acme.told)


@in_module
@pytest.mark.parametrize("door", DOORS)
async def test_a_clients_method_is_called_in_its_tenant_alone(mock: MockHub, acme: Acme, door: str) -> None:
    method = acme.names["method"]
    call = DOORS[door]
    found = [await call(mock, name, {}) for name in (method, f"{method[:-1]}z")]
    errors = [(said if isinstance(said, dict) else said[-1])["error"] for said in found]
    assert errors[0]["code"] == ErrorCode.METHOD_NOT_FOUND
    assert errors[0]["message"].replace(method, f"{method[:-1]}z") == errors[1]["message"]


OPERATORS: Final = sorted(name for name, row in METHODS.items() if row.right == "admin")
NOT_HERE: Final = frozenset(name for name in OPERATORS if name.startswith("config."))
"""A hub in memory has no settings that change; tests/hub/test_hub_methods_hub.py asks a real one."""


@in_module
@pytest.mark.parametrize("method", sorted(set(OPERATORS) - NOT_HERE))
async def test_what_is_the_operators_is_refused(mock: MockHub, method: str) -> None:
    for call in (over_websocket, over_http):
        said = await call(mock, method, {})
        error = (said if isinstance(said, dict) else said[-1])["error"]
        assert error["code"] == ErrorCode.FORBIDDEN


def test_every_method_is_tried() -> None:
    missing = METHODS.keys() - TRIALS.keys() - set(OPERATORS)
    assert not missing, f"TRIALS has to say how {sorted(missing)} are tried, or that they keep nothing"
    assert not TRIALS.keys() - METHODS.keys(), "of methods that there are"
