"""Names that a hub answers itself, or keeps for itself: a method of such a name would never be called."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.support.hub import DEBUG_METHODS, ready_hub
from tests.support.peer import peer
from trunkline.methods.declaration import RegistrationError, method
from trunkline.methods.loading import load_modules
from trunkline.methods.registry import Registry

TAKEN = [
    "auth", "executors.assign", "executors.drain", "executors.reload",
    "health.check", "health.detailed", "jobs.cancel", "jobs.create",
    "jobs.get", "jobs.list", "method.register", "method.unregister", "metrics.get", "publish", "rpc.discover",
    "rpc.ping", "session.close", "session.open", "subscribe", "system.calls", "system.cancel", "system.failure",
    "system.info", "system.topics", "unsubscribe",
    "$/cancelRequest", "$/progress", "event", "event.gap", "notifications/cancelled", "session.ack", "stream.credit",
    "stream.push", "stream_chunk",
]  # fmt: skip
RESERVED = ["rpc.mine", "session.mine", "stream.mine", "system.status", "$/mine"]
FREE = ["authenticate", "events", "health", "health.mine", "jobs.mine", "publish.all", "rpc", "systems.status"]

SOURCE = """
from trunkline import method

@method({name!r})
async def answer() -> str:
    return "from the module"
"""


@pytest.mark.parametrize("name", TAKEN + RESERVED)
def test_the_decorator_refuses_them(name: str) -> None:
    with pytest.raises(RegistrationError) as refused:
        method(name)
    assert repr(name) in str(refused.value)
    assert "choose another name" in str(refused.value)


@pytest.mark.parametrize("name", FREE)
def test_others_are_free(name: str) -> None:
    method(name)


@pytest.mark.parametrize("name", ["system.info", "system.status"])
async def test_an_executor_leaves_the_module_out_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / f"taken_{name.replace('.', '_')}.py").write_text(SOURCE.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    [failure] = await load_modules(Registry(), [f"taken_{name.replace('.', '_')}"], {})
    assert name in failure.message
    assert "choose another name" in failure.message


def test_a_module_for_local_methods_is_held_to_it_too() -> None:
    module = ModuleType("taken_here")
    with pytest.raises(RegistrationError, match=r"system\.info"):
        exec(SOURCE.format(name="system.info"), vars(module))  # as an import does


async def test_a_hub_says_so_and_serves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "taken_at_hub.py").write_text(SOURCE.format(name="metrics.get"))
    with ready_hub(DEBUG_METHODS, "taken_at_hub", cwd=tmp_path) as hub:
        async with peer(hub.url) as client:
            health = await client.result("health.detailed")
            assert health["status"] == "degraded"
            assert [cause for cause in health["causes"] if "metrics.get" in cause and "choose another name" in cause]
            assert "request_count" in await client.result("metrics.get")
            assert await client.result("debug.echo", {"value": 1}) == 1
