"""Keys change hands under load, and whoever has a part in that is killed: every acknowledged write is there, once."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.hub import MODULES, RunningHub, is_alive, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE, eventually, until
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.slots import slot_of

WINDOW: Final = 8
RESTART: Final = 3 * PATIENCE
"""Seconds in which an executor has to be there again."""

OWNERS: Final = ("executor-0", "executor-1")
KEYS: Final = ("alpha", "beta", "gamma", "delta")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pack has its files."""
    return tmp_path_factory.mktemp("keeper")


@pytest.fixture(scope="module")
def patient(folder: Path) -> Iterator[RunningHub]:
    """Two executors; keys change hands only where a test wants it."""
    env = {"KEEPER": str(folder), "TRUNKLINE_HAND_OVER_SECONDS": "60", "TRUNKLINE_REBALANCE_SECONDS": "0"}
    with ready_hub("keeper", cwd=MODULES, executors=2, env=env) as hub:
        yield hub


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[RunningHub]:
    """Two executors, which have little time to hand over, and do so of themselves."""
    env = {
        "KEEPER": str(folder),
        "TRUNKLINE_HAND_OVER_SECONDS": str(2.5 * SCALE),
        "TRUNKLINE_REBALANCE_SECONDS": "0.2",
    }
    with ready_hub("keeper", cwd=MODULES, executors=2, env=env) as hub:
        yield hub


@dataclass
class Written:
    """What writers were told of their numbers."""

    acknowledged: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    maybe: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    errors: list[Any] = field(default_factory=list)


async def write(url: str, name: str, writer: int, method: str, written: Written, stop: asyncio.Event) -> None:
    """Write numbers that count up, to all keys in turn, some at a time, until told to stop."""
    async with peer(url) as connection:
        open_calls: dict[Any, tuple[str, int]] = {}
        for count in range(10**6):
            if stop.is_set() and not open_calls:
                return
            if not stop.is_set():
                key, number = f"{name}-{KEYS[count % len(KEYS)]}", writer * 10**6 + count
                call = await connection.request(method, {"key": key, "number": number, "seconds": 0.005})
                open_calls[call] = key, number
            if len(open_calls) >= WINDOW or stop.is_set():
                reply = await connection.receive()
                key, number = open_calls.pop(reply["id"])
                if "result" in reply:
                    written.acknowledged[key].append(number)
                else:
                    written.errors.append(reply["error"])
                    if reply["error"]["data"]["maybe_executed"]:
                        written.maybe[key].add(number)


@asynccontextmanager
async def load(url: str, name: str, method: str = "keeper.append", writers: int = 3) -> AsyncIterator[Written]:
    """Writers at work for the length of a block."""
    written, stop = Written(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in range(writers):
            group.create_task(write(url, name, writer, method, written, stop))
        async with asyncio.timeout(PATIENCE):
            while sum(map(len, written.acknowledged.values())) < 50:
                await asyncio.sleep(0.005)
        yield written
        stop.set()


def kept(folder: Path, key: str) -> list[tuple[int, int]]:
    """What a log has: numbers, and which process wrote them."""
    lines = (folder / f"{key}.log").read_text().splitlines()
    return [(int(number), int(pid)) for number, pid in map(str.split, lines)]


def check(folder: Path, name: str, written: Written) -> None:
    """Each acknowledged number is there once, each other at most once, in the order they were sent."""
    assert not (folder / "two-owners").exists(), f"two owners of {(folder / 'two-owners').read_text()}"
    for key in (f"{name}-{each}" for each in KEYS):
        numbers = [number for number, _pid in kept(folder, key)]
        assert len(numbers) == len(set(numbers)), f"{key}: written twice"
        assert set(written.acknowledged[key]) <= set(numbers), f"{key}: acknowledged and lost"
        assert set(numbers) <= set(written.acknowledged[key]) | written.maybe[key], f"{key}: said not to be executed"
        for writer in range(3):
            own = [number for number in numbers if number // 10**6 == writer]
            assert own == sorted(own), f"{key}: out of order"


async def executors(connection: Peer) -> dict[str, dict[str, Any]]:
    health = await connection.result("health.detailed")
    return {executor["worker_id"]: executor for executor in health["executors"]}


async def whole(connection: Peer) -> dict[str, dict[str, Any]]:
    """Wait until all executors are there."""
    async with asyncio.timeout(RESTART):
        while (await connection.result("health.check"))["status"] != "healthy":
            await asyncio.sleep(0.02)
    return await executors(connection)


@contextmanager
def loading_stalls(folder: Path) -> Iterator[None]:
    """An executor that dies meanwhile is not back before the end of the block."""
    stall = folder / "stall-load"
    stall.touch()
    try:
        yield
    finally:
        stall.unlink()


async def owns_nothing(connection: Peer, name: str) -> None:
    """Wait until the keys of an executor are another's."""

    async def lost() -> bool:
        return not (await executors(connection))[name]["slots"]

    await until(lost, f"the keys of {name} are another's")


async def waiting(connection: Peer, wanted: int) -> None:
    """Wait until so many calls are parked."""
    async with asyncio.timeout(PATIENCE):
        while (await connection.result("health.detailed"))["waiting_requests"] != wanted:
            await asyncio.sleep(0.005)


async def parked(connection: Peer) -> None:
    """Wait until a hand-over has begun."""
    async with asyncio.timeout(PATIENCE):
        while not any(executor["slots_leaving"] for executor in (await executors(connection)).values()):
            await asyncio.sleep(0.005)


async def appears(path: Path) -> int:
    """Wait for a marker; the process that left it."""

    def said() -> str:
        return path.read_text() if path.exists() else ""

    return int(await until(said, f"{path.name} is there"))  # what it found: the file may be written anew


async def test_back_and_forth_under_load(patient: RunningHub, folder: Path) -> None:
    async with peer(patient.url) as operator, load(patient.url, "swing") as written:
        before = await whole(operator)
        for turn in range(12):
            for key in KEYS:
                params = {"key": f"swing-{key}", "worker_id": OWNERS[turn % 2]}
                said = await operator.result("executors.assign", params)
                require({**params, "slot": slot_of(params["key"])}, said)
    assert not written.errors
    check(folder, "swing", written)
    pids = [pid for _number, pid in kept(folder, "swing-alpha")]
    assert set(pids) == {executor["pid"] for executor in before.values()}
    assert sum(one != next_ for one, next_ in itertools.pairwise(pids)) >= 10, "it changed hands"


async def test_an_executor_is_drained_without_a_lost_write(patient: RunningHub, folder: Path) -> None:
    async with peer(patient.url) as operator, load(patient.url, "drain") as written:
        before = await whole(operator)
        said = await operator.result("executors.drain", {"worker_id": "executor-0"}, within=RESTART)
        assert said["slots"] == before["executor-0"]["slots"]
        after = await executors(operator)
        assert after["executor-0"]["pid"] == said["pid"] != before["executor-0"]["pid"]
        assert after["executor-0"]["restarts"] == before["executor-0"]["restarts"], "nothing failed"
        assert {name: each["slots"] for name, each in after.items()} == {
            name: each["slots"] for name, each in before.items()
        }
        await asyncio.to_thread(eventually, lambda: not is_alive(before["executor-0"]["pid"]), "the old one has ended")
        # The other one, too, as an operator goes through a pool.
        await operator.result("executors.drain", {"worker_id": "executor-1"}, within=RESTART)
    assert not written.errors
    check(folder, "drain", written)
    assert len({pid for key in KEYS for _number, pid in kept(folder, f"drain-{key}")}) >= 2


@pytest.mark.parametrize("method", ["keeper.append", "keeper.put"])
async def test_an_owner_dies_under_load(patient: RunningHub, folder: Path, method: str) -> None:
    """Its keys are served at once by the other, before it is back."""
    name = f"dead-{method[-3:]}"
    async with peer(patient.url) as operator, load(patient.url, name, method) as written:
        victim = next(each for each in (await whole(operator)).values() if each["slots"])
        with loading_stalls(folder):
            os.kill(victim["pid"], signal.SIGKILL)
            await owns_nothing(operator, victim["worker_id"])
            for key in KEYS:
                await operator.result(method, {"key": f"{name}-{key}", "number": 9 * 10**6})
            assert (await executors(operator))[victim["worker_id"]]["status"] in ("down", "starting"), (
                "it is not back yet"
            )
        await whole(operator)
    if method == "keeper.append":
        for error in written.errors:
            require({"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True}}, error)
        for key in KEYS:
            written.acknowledged[f"{name}-{key}"].append(9 * 10**6)
        check(folder, name, written)
        return
    assert not written.errors, "they may run again"
    assert not (folder / "two-owners").exists()
    for key in (f"{name}-{each}" for each in KEYS):
        for writer in range(3):
            numbers = [number for number, _pid in kept(folder, key) if number // 10**6 == writer]
            assert set(numbers) == {number for number in written.acknowledged[key] if number // 10**6 == writer}
            assert list(dict.fromkeys(numbers)) == sorted(set(numbers)), "first time out of order"
            assert list(dict.fromkeys(reversed(numbers))) == sorted(set(numbers), reverse=True), "second time"


@asynccontextmanager
async def owned_by(hub: RunningHub, key: str, owner: str = OWNERS[0]) -> AsyncIterator[Peer]:
    """A connection, with both executors there, one of which owns the key and has it open."""
    async with peer(hub.url) as connection:
        await whole(connection)
        await connection.result("executors.assign", {"key": key, "worker_id": owner})
        await connection.result("keeper.append", {"key": key, "number": 0})
        yield connection


def other(owner: str = OWNERS[0]) -> str:
    return OWNERS[1 - OWNERS.index(owner)]


async def test_the_old_owner_is_killed_while_it_drains(patient: RunningHub, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "hold"
    async with owned_by(patient, "draining") as connection:
        held = await connection.request("keeper.hold", {"key": "draining", "marker": str(marker)})
        pid = await appears(tmp_path / "hold.started")
        moved = await connection.request("executors.assign", {"key": "draining", "worker_id": other()})
        await parked(connection)
        writes = [await connection.request("keeper.append", {"key": "draining", "number": n}) for n in range(1, 9)]
        await waiting(connection, len(writes))
        os.kill(pid, signal.SIGKILL)
        require({"code": ErrorCode.WORKER_CRASHED}, (await connection.reply(held))["error"])
        assert (await connection.reply(moved))["result"]["worker_id"] == other()
        assert [(await connection.reply(each))["result"] for each in writes] == list(range(1, 9))
    numbers = kept(folder, "draining")
    assert [number for number, _pid in numbers] == list(range(9))
    assert {written_by for _number, written_by in numbers[1:]} == {(await pids(patient))[other()]}
    assert not (folder / "two-owners").exists()


async def pids(hub: RunningHub) -> dict[str, int]:
    async with peer(hub.url) as connection:
        return {name: executor["pid"] for name, executor in (await executors(connection)).items()}


async def test_an_owner_that_lost_its_wire_owns_until_it_has_ended(patient: RunningHub, folder: Path) -> None:
    async with owned_by(patient, "lingering") as connection:
        ((_number, pid),) = kept(folder, "lingering")
        error = await connection.error("keeper.linger", {"key": "lingering"})
        require({"code": ErrorCode.WORKER_CRASHED}, error)
        assert await connection.result("keeper.append", {"key": "lingering", "number": 1}) == 1
        assert not is_alive(pid)
    assert not (folder / "two-owners").exists()


async def test_the_old_owner_is_killed_while_it_releases(patient: RunningHub, folder: Path) -> None:
    (folder / "stall-release-letting").touch()
    async with owned_by(patient, "letting") as connection:
        moved = await connection.request("executors.assign", {"key": "letting", "worker_id": other()})
        pid = await appears(folder / "releasing-letting")
        writes = [await connection.request("keeper.append", {"key": "letting", "number": n}) for n in range(1, 9)]
        await waiting(connection, len(writes))
        os.kill(pid, signal.SIGKILL)
        assert (await connection.reply(moved))["result"]["worker_id"] == other()
        assert [(await connection.reply(each))["result"] for each in writes] == list(range(1, 9))
    assert [number for number, _pid in kept(folder, "letting")] == list(range(9))
    assert not (folder / "two-owners").exists()


async def test_the_new_owner_is_killed_while_it_loads(patient: RunningHub, folder: Path) -> None:
    async with owned_by(patient, "loading") as connection:
        (folder / "stall-open-loading").touch()
        await connection.result("executors.assign", {"key": "loading", "worker_id": other()})
        writes = [await connection.request("keeper.put", {"key": "loading", "number": n}) for n in range(1, 9)]
        pid = await appears(folder / "opening-loading")
        (folder / "stall-open-loading").unlink()
        os.kill(pid, signal.SIGKILL)
        assert [(await connection.reply(each))["result"] for each in writes] == list(range(1, 9))
        numbers = [number for number, _pid in kept(folder, "loading")]
        assert list(dict.fromkeys(numbers)) == list(range(9))
    assert not (folder / "two-owners").exists()


@pytest.mark.parametrize("relay", ["", "keeper.relay"])
async def test_what_a_call_in_flight_calls_for_its_own_key_is_not_parked(
    patient: RunningHub, folder: Path, tmp_path: Path, relay: str
) -> None:
    key = f"nested-{relay}"
    async with owned_by(patient, key) as connection:
        params = {"key": key, "number": 1, "marker": str(tmp_path / "hold"), "relay": relay}
        held = await connection.request("keeper.hold_then_append", params)
        await appears(tmp_path / "hold.started")
        moved = await connection.request("executors.assign", {"key": key, "worker_id": other()})
        await parked(connection)
        late = await connection.request("keeper.append", {"key": key, "number": 2})
        await waiting(connection, 1)
        (tmp_path / "hold.go").touch()
        assert (await connection.reply(held))["result"] == 1
        assert (await connection.reply(moved))["result"]["worker_id"] == other()
        assert (await connection.reply(late))["result"] == 2
    assert [number for number, _pid in kept(folder, key)] == [0, 1, 2]


async def test_a_stream_does_not_hold_a_hand_over_up(impatient: RunningHub, folder: Path) -> None:
    async with owned_by(impatient, "stream") as connection:
        stream = await connection.request("keeper.read_on", {"key": "stream"})
        await connection.receive()
        moved = await connection.request("executors.assign", {"key": "stream", "worker_id": other()})
        await parked(connection)
        late = await connection.request("keeper.append", {"key": "stream", "number": 1})
        error = (await connection.reply(stream))["error"]
        require({"code": ErrorCode.WORKER_UNAVAILABLE, "data": {"maybe_executed": True}}, error)
        assert error["data"]["chunks"] > 0
        assert (await connection.reply(moved))["result"]["worker_id"] == other()
        assert (await connection.reply(late))["result"] == 1
        assert [pid for _number, pid in kept(folder, "stream")][1] == (await executors(connection))[other()]["pid"]


async def test_what_may_run_again_does_so_with_the_new_owner(impatient: RunningHub, tmp_path: Path) -> None:
    async with owned_by(impatient, "again") as connection:
        held = await connection.request("keeper.hold_once", {"key": "again", "marker": str(tmp_path / "once")})
        first = await appears(tmp_path / "once")
        await connection.result("executors.assign", {"key": "again", "worker_id": other()})
        assert (await connection.reply(held))["result"] == (await executors(connection))[other()]["pid"] != first
        assert is_alive(first), "nobody was killed for it"


@pytest.mark.parametrize("how", ["stall", "broken"])
async def test_an_owner_that_does_not_release_is_killed(impatient: RunningHub, folder: Path, how: str) -> None:
    key = f"{how}ed"
    (folder / f"{how}-release-{key}").touch()
    async with owned_by(impatient, key) as connection:
        before = await executors(connection)
        moved = await connection.call("executors.assign", {"key": key, "worker_id": other()})
        assert moved["result"]["worker_id"] == other()
        assert await connection.result("keeper.append", {"key": key, "number": 1}) == 1
        after = await whole(connection)
        assert after[OWNERS[0]]["restart_causes"].get("killed_by_hub", 0) == 1 + before[OWNERS[0]][
            "restart_causes"
        ].get("killed_by_hub", 0)
        assert "release" in after[OWNERS[0]]["last_restart"]["words"]
    assert not (folder / "two-owners").exists()


async def test_load_is_evened_out_when_an_executor_is_back(impatient: RunningHub, folder: Path) -> None:
    async with peer(impatient.url) as operator, load(impatient.url, "even") as written:
        victim = (await whole(operator))[OWNERS[1]]["pid"]
        with loading_stalls(folder):
            os.kill(victim, signal.SIGKILL)
            await owns_nothing(operator, OWNERS[1])

        async def evened_out() -> bool:
            return bool((await executors(operator))[OWNERS[1]]["slots"] >= 30)

        await until(evened_out, "it has its share again", RESTART)
    check(folder, "even", written)


async def test_a_single_executor_is_drained_too(folder: Path, tmp_path: Path) -> None:
    env = {"KEEPER": str(folder), "TRUNKLINE_REPLACE": "old_first"}
    with ready_hub("keeper", cwd=MODULES, env=env) as hub:
        async with peer(hub.url) as connection:
            key = "single"
            params = {"key": key, "number": 1, "marker": str(tmp_path / "hold"), "relay": "keeper.relay"}
            held = await connection.request("keeper.hold_then_append", params)
            pid = await appears(tmp_path / "hold.started")
            drained = await connection.request("executors.drain", {"worker_id": "executor-0"})
            await parked(connection)
            late = await connection.request("keeper.append", {"key": key, "number": 2})
            await waiting(connection, 1)
            (tmp_path / "hold.go").touch()
            assert (await connection.reply(held))["result"] == 1
            assert (await connection.reply(late, RESTART))["result"] == 2
            assert (await connection.reply(drained, RESTART))["result"]["slots"] == 64
            (first, one), (second, two) = kept(folder, key)
            assert (first, second) == (1, 2)
            assert one == pid != two
            hub.executor_pids()


async def test_orders_that_cannot_be_followed(patient: RunningHub) -> None:
    async with peer(patient.url) as connection:
        error = await connection.error("executors.drain", {"worker_id": "executor-7"})
        assert error["code"] == ErrorCode.INVALID_PARAMS
        assert "there are: executor-0, executor-1" in error["message"]
        error = await connection.error("executors.assign", {"worker_id": "executor-0"})
        assert (error["code"], "key" in error["message"]) == (ErrorCode.INVALID_PARAMS, True)
