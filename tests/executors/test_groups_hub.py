"""Groups of executors of a real hub: what is served where, from which interpreter, and what each is told."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import venv
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command import requires_failure, trunkline_process
from tests.support.health import heard_health
from tests.support.hub import MODULES, RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import START, eventually, until
from trunkline_protocol.errors import ErrorCode

LOAD_CODES: Final = (
    ErrorCode.PIPELINE_INITIALIZATION_FAILED, ErrorCode.INVALID_CONFIGURATION, ErrorCode.MISSING_DEPENDENCIES,
)  # fmt: skip

CONFIG = """
[groups.light]
methods = ["grouped", "grouped_light"]
size = 1
settings = {{ colour = "red" }}
env = {{ PAINT = "oil" }}

[groups.heavy]
methods = ["grouped", "grouped_heavy", "trunkline.methods.debug"]
techniques = ["deep", "wide"]
size = 2
strategy = "round_robin"
python = {python}
max_concurrency = 1
queue_limit = 2
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another virtual environment, which finds what this one has."""
    folder = tmp_path_factory.mktemp("other") / "venv"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "here.pth").write_text("\n".join(path for path in sys.path if Path(path).is_dir()))
    return folder


@pytest.fixture(scope="module")
def hub(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    config = tmp_path_factory.mktemp("config") / "hub.toml"
    config.write_text(CONFIG.format(python=json.dumps(str(environment))))
    with RunningHub((), arguments=("--config", str(config)), cwd=MODULES) as running:
        yield running.ready()


@pytest.fixture
async def connection(hub: RunningHub) -> AsyncIterator[Peer]:
    async with peer(hub.url) as connected:
        yield connected


async def test_a_method_of_one_group_runs_there(connection: Peer) -> None:
    assert {await connection.result("light.only") for _ in range(8)} == {"light"}
    workers: set[str] = set()

    async def both() -> bool:  # in turn, unless one of them stands still for a moment
        workers.update([(await connection.result("debug.pid"))["worker_id"] for _ in range(8)])
        return len(workers) >= 2

    await until(both, "each has its turn")
    assert workers == {"heavy-0", "heavy-1"}


async def test_a_method_of_several_groups_runs_in_any_of_them(connection: Peer) -> None:
    ids: list[int] = []

    async def everywhere() -> bool:  # the third, unless one of them stands still for a moment
        ids.append(await connection.request("place.wait", {"seconds": 60}))
        calls = (await connection.result("system.calls"))["calls"]
        places = {call["executor"] for call in calls if call["method"] == "place.wait"}
        return places >= {"light-0", "heavy-0", "heavy-1"}

    await until(everywhere, "each has such a call")
    for each in ids:
        await connection.cancel(each)
        assert (await connection.reply(each))["error"]["code"] == ErrorCode.CANCELLED


async def test_an_executor_is_told_its_group_number_settings_and_variables(connection: Peer, environment: Path) -> None:
    told: dict[str, Any] = {}
    while len(told) < 3:
        each = await connection.result("place.tell")
        told[each["worker_id"]] = each
    assert told["light-0"] == {
        "group": "light", "worker_id": "light-0", "told": ["light", 0], "colour": "red", "paint": "oil",
        "prefix": sys.prefix,
    }  # fmt: skip
    assert told["heavy-1"] == {
        "group": "heavy", "worker_id": "heavy-1", "told": ["heavy", 1], "colour": None, "paint": None,
        "prefix": str(environment),
    }  # fmt: skip


async def test_methods_call_those_of_other_groups(connection: Peer) -> None:
    result = await connection.result("heavy.lift")
    assert (result["group"], result["light"]) == ("heavy", "light")


async def test_routing_keys_are_spread_over_the_executors_of_their_group(connection: Peer) -> None:
    owners = Counter([await connection.result("heavy.owned", {"name": f"n{i}"}) for i in range(64)])
    assert owners.keys() == {"heavy-0", "heavy-1"}
    error = await connection.error("executors.assign", {"key": "n0", "worker_id": "light-0"})
    assert error["message"] == "worker_id: light-0 is in the group light; heavy has the routing keys"


async def test_a_technique_goes_to_the_group_that_lists_it(connection: Peer) -> None:
    assert {await connection.result("place.by_technique", {"technique": "deep"}) for _ in range(6)} == {"deep in heavy"}
    assert {await connection.result("place.by_technique", ["wide"]) for _ in range(6)} == {"wide in heavy"}
    assert {await connection.result("place.by_technique", {"technique": "new"}) for _ in range(6)} == {"new in light"}
    assert {await connection.result("place.by_technique") for _ in range(6)} == {"plain in light"}


async def test_a_pipeline_goes_to_the_group_of_its_technique(connection: Peer) -> None:
    for technique, group in (("deep", "heavy"), ("new", "light")):
        made = await connection.result("pipeline.initialize", {"technique": technique, "config": {}})
        for params in ({"pipeline_id": made}, {"pipeline_id": made, "technique": technique}):
            where = {await connection.result("place.by_technique", params) for _ in range(4)}
            assert where == {f"a pipeline in {group}"}, params
    gone = await connection.result("place.by_technique", {"pipeline_id": "none"})
    assert gone == "a pipeline in light", "as without one: the method itself says that there is none"
    error = (await connection.call("place.by_technique", {"pipeline_id": 7}))["error"]
    assert error["message"] == "place.by_technique: pipeline_id must be given as a string"


async def test_a_full_group_refuses_and_the_others_go_on(connection: Peer) -> None:
    # Quick calls before these may have let the hub send some ahead, 256 an executor at most.
    waiting = [await connection.request("debug.sleep", {"seconds": 60}) for _ in range(2 * (1 + 256) + 2 + 1)]
    error = (await connection.receive())["error"]
    require(
        {
            "code": ErrorCode.WORKER_OVERLOADED,
            "data": {"limit": "groups.heavy.queue_limit", "retry_after_ms": {"$type": "number"}},
        },
        error,
    )
    assert await connection.result("light.only") == "light"
    for each in waiting:
        await connection.cancel(each)


GAUGES: Final = (("executors_ready", "heavy"), ("calls_waiting", "light"))


async def test_health_names_the_groups(connection: Peer, hub: RunningHub) -> None:
    executors = (await connection.result("health.detailed"))["executors"]
    assert [(each["worker_id"], each["group"]) for each in executors] == [
        ("light-0", "light"), ("heavy-0", "heavy"), ("heavy-1", "heavy"),
    ]  # fmt: skip

    def told() -> bool:
        page = hub.get("/metrics").body.decode()
        heavy, light = (f'trunkline_group_{what}{{group="{name}"}}' for what, name in GAUGES)
        return f"{heavy} 2.0" in page and f"{light} 0.0" in page

    await asyncio.to_thread(eventually, told, "both are ready, and nothing waits")


async def test_variables_of_a_group_are_not_shown(connection: Peer) -> None:
    told = await connection.result("config.get")
    assert "oil" not in json.dumps(told)
    assert "heavy" in json.dumps(told)


BAD: Final = """
[groups.good]
methods = ["grouped", "grouped_light"]
size = 1

[groups.import]
methods = ["broken_import"]
size = 1

[groups.load]
methods = ["broken_load", "grouped_rival"]
size = 1

[groups.python]
methods = ["grouped_heavy"]
size = 1
python = {python}
"""


async def test_one_bad_group_or_module_does_not_stop_the_others(tmp_path: Path) -> None:
    """A module that cannot be imported, one that cannot be loaded, an interpreter that has no trunkline."""
    venv.create(tmp_path / "bare", symlinks=True)
    config = tmp_path / "hub.toml"
    config.write_text(BAD.format(python=json.dumps(str(tmp_path / "bare"))))
    with RunningHub((), arguments=("--config", str(config)), cwd=MODULES) as running:
        async with peer(running.url) as connected:

            async def code(method: str) -> Any:
                error = (await connected.call(method)).get("error")
                return None if error is None or error["data"]["retryable"] else error["code"]

            async def served(method: str) -> bool:
                return "result" in await connected.call(method)

            await until(lambda: served("light.only"), "the good group serves", START)
            await until(lambda: served("rival.free"), "so does the good module of another", START)
            await until(lambda: code("heavy.lift"), "the cause is told, and is final", START)
            error = await connected.error("heavy.lift")
            assert error["code"] in LOAD_CODES
            assert "could not be loaded" in error["message"]
            assert await connected.result("light.only") == "good"
            health = await heard_health(connected)
            assert health["status"] in ("degraded", "unhealthy")
            groups = {group["name"]: group for group in health["groups"]}
            assert groups["good"]["ready"]
            assert not groups["python"]["ready"]
            assert not groups["import"]["ready"]
            assert any(cause["kind"] == "not_loaded" for cause in groups["load"]["causes"])


async def test_a_second_group_with_routing_keys_is_refused_and_the_rest_serves(tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(
        '[groups.a]\nmethods = ["grouped_heavy"]\nsize = 1\n\n[groups.b]\nmethods = ["grouped_rival"]\nsize = 1\n'
    )
    with RunningHub((), arguments=("--config", str(config)), cwd=MODULES) as running:
        running.ready()
        async with peer(running.url) as connected:
            refused = [
                (name, error["error"])
                for name in ("heavy.owned", "rival.owned")
                if "error" in (error := await connected.call(name, {"name": "n"}))
            ]
            ((_name, error),) = refused
            assert error["code"] == ErrorCode.INVALID_CONFIGURATION
            assert re.search(r"the groups (a and b|b and a) both have such methods", error["message"])
            assert error["data"]["retryable"] is False
            assert await connected.result("rival.free") == "free"
            health = await heard_health(connected)
            assert health["status"] == "degraded"
            assert any("has a routing key" in cause for cause in health["causes"])


def test_problems_of_groups_are_told_all_at_once_by_their_paths(tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(
        '[groups.gpu]\nmethods = ["grouped"]\nsize = 0\nstrategy = "fastest"\nqueue_limti = 5\n\n'
        "[groups.Two]\nsize = 1\n"
    )
    done = trunkline_process("serve", "--port", "0", "--config", str(config), cwd=tmp_path)
    requires_failure(
        done,
        2,
        "groups.gpu.size: Input should be greater than or equal to 1",
        "groups.gpu.strategy: Input should be 'round_robin', 'least_connections' or 'performance_based'",
        "groups.gpu.queue_limti: no such setting; did you mean queue_limit?",
        "groups.Two",
    )


def test_what_is_not_on_this_machine_is_told_all_at_once_too(tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    config.write_text(
        'packs = ["none"]\n[groups.gpu]\npython = "/nowhere"\nmethods = ["grouped"]\n\n[groups.empty]\nsize = 1\n\n'
        '[groups.a]\npacks = ["vectors"]\n[groups.b]\npacks = ["vectors", "unheard"]\n'
    )
    done = trunkline_process("serve", "--port", "0", "--config", str(config), cwd=tmp_path)
    requires_failure(
        done,
        2,
        "groups.gpu.python: there is no interpreter /nowhere",
        "groups.empty.packs: the group serves nothing",
        "groups.b.packs: unknown pack 'unheard'",
        "groups.a and groups.b both have the pack vectors",
    )
