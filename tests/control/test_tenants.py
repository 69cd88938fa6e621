"""``tenants.*``: records that survive, tenants that are suspended, and what goes with one that is deleted."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.hub.callers import tokens_file
from tests.support.doubles import Asked
from tests.support.timing import PATIENCE, until
from trunkline import Context, Hub, RpcError, method
from trunkline.client import ConnectError
from trunkline.control.tenant_store import FILE, FOLDER, TenantStore
from trunkline.control.tenants import Tenants
from trunkline.hub.principal import Principal
from trunkline.storage.tenant_folders import make_tenant_folder, tenant_folder
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.tenant_messages import (
    TenantCreateParams,
    TenantDeleteParams,
    TenantParams,
    TenantThings,
)

ENTRIES: Final = {
    "root": 'roles = ["admin", "act_as"]',
    "ann": 'tenant = "acme"',
    "bob": 'tenant = "bolt"\nroles = ["admin"]',
    "dora": "",
}

NOTHING: Final = {"connections": 0, "jobs": 0, "calls": 0, "rate": 0, "items": 0, "bytes": 0}


def hub_in(folder: Path, **settings: Any) -> MockHub:
    return MockHub(data=folder / "data", tokens_file=tokens_file(folder, "", ENTRIES), **settings)


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[MockHub]:
    async with hub_in(tmp_path) as running:
        yield running


@pytest.fixture
async def root(mock: MockHub) -> AsyncIterator[Hub]:
    async with mock.connect(token="root") as hub:
        yield hub


async def test_beside_another_hub_of_the_folder_only_default_is_served_until_that_has_ended(tmp_path: Path) -> None:
    first = tenants_in(tmp_path, Held())
    first.open()
    await first._create(TenantCreateParams("acme"))
    second = tenants_in(tmp_path, Held())
    second.open()
    second.start()
    assert second.admitted(Principal("dora")).name == "dora"
    assert (second.holds("acme"), second.holds("default")) == (True, False), "its jobs wait"
    for asking in (lambda: second.admitted(Principal("ann", tenant="acme")), lambda: second._get(Asked(), ACME)):
        with pytest.raises(RpcError, match=r"tenants other than default are not let in yet: .* has it open") as caught:
            asking()
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.DATABASE_CONNECTION_ERROR, True)
    await first.close()
    await until(lambda: not second.holds("acme"), "it has read the records")
    assert second._get(Asked(), ACME).name == "acme"
    await second.close()


async def test_quotas_of_calls_hold_for_connections_that_are_open(mock: MockHub, root: Hub) -> None:
    free = asyncio.Event()

    @method("wait")
    async def wait() -> None:
        """Wait until all may end."""
        await free.wait()

    mock.method("wait", wait)
    await root.call("tenants.create", {"name": "acme", "quotas": {}})
    async with mock.connect(token="ann") as ann, mock.connect(token="dora") as dora:
        running = asyncio.ensure_future(ann.call("wait"))
        await until(lambda: mock.calls, "it runs")
        await root.call("tenants.update", {"name": "acme", "quotas": {"calls": 1}})
        error = await error_of(ann, "rpc.ping")
        assert (error.code, error.data["limit"], error.data["of"]) == (2003, "quotas.calls", "tenant")
        await dora.call("rpc.ping")
        free.set()
        await running
        await ann.call("rpc.ping")
        await root.call("tenants.update", {"name": "acme", "quotas": {"rate": 0.001}})
        await ann.call("rpc.ping")
        error = await error_of(ann, "rpc.ping")
        assert (error.code, error.data["limit"], error.data["max"]) == (6003, "quotas.rate", 0.001)
        kept = await root.call("tenants.update", {"name": "acme", "quotas": {"rate": 0}})
        assert kept["quotas"] == NOTHING | {"calls": 1}, "what is left out stays"
        for _ in range(3):
            await ann.call("rpc.ping")


async def test_nothing_that_was_in_memory_is_found_by_who_gets_the_name_next(mock: MockHub, root: Hub) -> None:
    ran: list[int] = []

    @method("count")
    async def count() -> int:
        ran.append(1)
        return len(ran)

    mock.method("count", count)

    async def used() -> tuple[Any, ...]:
        async with mock.connect(token="ann", reconnect=False) as ann:
            told = await ann.call("count", {}, idempotency_key="k")
            kept = await ann.call("history", {"topic": "orders.new"})
            await ann.call("publish", {"topic": "orders.new", "data": "theirs"})
            pipelines = await ann.call("pipeline.list")
            return told, kept["events"], pipelines

    assert await used() == (1, [], [])
    assert (await used())[0] == 1, "the key is known"
    assert [event["data"] for event in (await used())[1]] == ["theirs", "theirs"]
    await root.call("tenants.create", {"name": "acme"})
    await root.call("tenants.delete", {"name": "acme", "purge": True})
    assert await used() == (2, [], [])


ACME: Final = TenantParams("acme")


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ({"from": "2026-13-01"}, "from: there is no day 2026-13-01"),
        ({"to": "2026-02-30"}, "to: there is no day 2026-02-30"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from 2026-03-02 is after to 2026-03-01"),
    ],
)
async def test_days_that_there_are_not_are_no_days_without_use(root: Hub, days: dict[str, str], words: str) -> None:
    error = await error_of(root, "tenants.usage", tenant="acme", **days)
    assert (error.code, words in error.message) == (ErrorCode.INVALID_PARAMS, True)


async def error_of(hub: Hub, method: str, /, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await hub.call(method, params)
    return caught.value


async def refused(mock: MockHub, token: str) -> RpcError:
    """The error that a principal is not let in with."""
    with pytest.raises(ConnectError) as caught:
        async with mock.connect(token=token, reconnect=False):
            pass
    assert caught.value.error is not None
    return caught.value.error


async def test_a_record_is_made_changed_and_removed(root: Hub) -> None:
    made = await root.call("tenants.create", {"name": "acme", "display_name": "Acme GmbH", "metadata": {"plan": "x"}})
    view = {
        "name": "acme",
        "display_name": "Acme GmbH",
        "state": "active",
        "metadata": {"plan": "x"},
        "quotas": NOTHING,
    }
    assert made == view | {"created_at": made["created_at"], "created": True}
    again = {"name": "acme", "display_name": "Acme GmbH", "metadata": {"plan": "x"}}
    assert await root.call("tenants.create", again) == made | {"created": False}
    differs = await error_of(root, "tenants.create", name="acme")
    assert (differs.code, "tenants.update" in differs.message) == (ErrorCode.INVALID_CONFIGURATION, True)
    changed = await root.call("tenants.update", {"name": "acme", "display_name": None})
    assert changed == view | {"display_name": None, "created_at": made["created_at"]}
    assert await root.call("tenants.get", {"name": "acme"}) == changed
    deleted = await root.call("tenants.delete", {"name": "acme"})
    assert deleted == {
        "name": "acme",
        "deleted": True,
        "removed": {"collections": 0, "jobs": 0, "connections": 0, "sessions": 0, "conversations": 0},
    }
    for name in ("tenants.get", "tenants.update", "tenants.delete"):
        error = await error_of(root, name, name="acme")
        assert (error.code, "there is no tenant 'acme'" in error.message) == (ErrorCode.INVALID_PARAMS, True)


async def test_they_are_listed_by_name_a_page_at_a_time(root: Hub) -> None:
    names = [f"t{number:02}" for number in range(7)]
    for name in reversed(names):
        await root.call("tenants.create", {"name": name})
    seen: list[str] = []
    page: dict[str, Any] = {"cursor": None}
    while len(seen) < 7:
        page = await root.call("tenants.list", {"limit": 3, "cursor": page["cursor"]})
        assert 0 < len(page["tenants"]) <= 3
        seen += [each["name"] for each in page["tenants"]]
    assert (seen, page["cursor"]) == (names, None)


async def test_quotas_limit_its_connections_and_jobs_from_the_change_on(mock: MockHub, root: Hub) -> None:
    free = asyncio.Event()

    @method("wait", idempotent=True)
    async def wait() -> None:
        """Wait until all may end."""
        await free.wait()

    mock.method("wait", wait)
    made = await root.call("tenants.create", {"name": "acme", "quotas": {"connections": 1}})
    assert made["quotas"] == NOTHING | {"connections": 1}
    assert (await error_of(root, "tenants.create", name="acme")).code == ErrorCode.INVALID_CONFIGURATION
    async with mock.connect(token="ann") as ann, mock.connect(token="bob"), mock.connect(token="bob"):
        error = await refused(mock, "ann")
        assert error.code == ErrorCode.RESOURCE_EXHAUSTED
        assert error.data == {"limit": "quotas.connections", "of": "tenant", "max": 1}
        await root.call("tenants.update", {"name": "acme", "quotas": {"connections": 2, "jobs": 2}})
        async with mock.connect(token="ann"):
            assert (await refused(mock, "ann")).data["max"] == 2
        for _ in range(2):
            await ann.call("jobs.create", {"method": "wait", "params": {}})
        error = await error_of(ann, "jobs.create", method="wait", params={})
        assert (error.code, error.data) == (
            ErrorCode.RESOURCE_EXHAUSTED,
            {"limit": "quotas.jobs", "of": "tenant", "max": 2},
        )
        await root.call("jobs.create", {"method": "wait", "params": {}})
        await root.call("tenants.update", {"name": "acme", "quotas": {"jobs": 0}})
        await ann.call("jobs.create", {"method": "wait", "params": {}})
        free.set()
    wrong = await error_of(root, "tenants.update", name="acme", quotas={"things": 1})
    assert (wrong.code, "things" in wrong.message) == (ErrorCode.INVALID_PARAMS, True)


async def test_they_are_for_admins_and_not_about_default(mock: MockHub, root: Hub) -> None:
    async with mock.connect(token="ann") as ann, mock.connect(token="bob") as bob:
        for name, params in (
            ("create", {"name": "x"}),
            ("list", {}),
            ("get", {"name": "x"}),
            ("update", {"name": "x"}),
            ("delete", {"name": "x"}),
        ):
            assert (await error_of(ann, f"tenants.{name}", **params)).code == ErrorCode.FORBIDDEN
        assert (await bob.call("tenants.create", {"name": "x"}))["created"], "an admin of whatever tenant"
    for name in ("create", "delete"):
        for wrong in ("default", "a\nb", "\u200b"):
            assert (await error_of(root, f"tenants.{name}", name=wrong)).code == ErrorCode.INVALID_PARAMS, (name, wrong)
    large = {"name": "y", "metadata": {"x": "y" * 17_000}}
    assert "metadata" in (await error_of(root, "tenants.create", **large)).message


async def test_who_is_suspended_is_cut_off_and_let_in_again(mock: MockHub, root: Hub) -> None:
    mock.method("echo", lambda text: text)
    await root.call("tenants.create", {"name": "acme"})
    act_as = {"act_as": {"principal": "x", "tenant": "acme"}}
    assert await root.call("echo", {"text": "a"}, metadata=act_as) == "a"
    async with mock.connect(token="ann") as ann, mock.connect(token="bob") as bob:
        assert (await root.call("tenants.update", {"name": "acme", "state": "suspended"}))["state"] == "suspended"
        assert (await asyncio.wait_for(ann.closed, PATIENCE)).code == 4502
        error = await refused(mock, "ann")
        assert (error.code, error.message) == (ErrorCode.FORBIDDEN, "tenant 'acme' is suspended")
        with pytest.raises(RpcError, match="tenant 'acme' is suspended"):
            await root.call("echo", {"text": "a"}, metadata=act_as)
        assert await bob.call("echo", {"text": "b"}) == "b"
    await root.call("tenants.update", {"name": "acme", "state": "active"})
    async with mock.connect(token="ann") as ann:
        assert await ann.call("echo", {"text": "a"}) == "a"


async def test_records_are_there_after_a_restart_and_unknown_tenants_only_where_that_is_allowed(tmp_path: Path) -> None:
    async with hub_in(tmp_path) as mock, mock.connect(token="root") as root:
        await root.call("tenants.create", {"name": "acme", "metadata": {"a": 1}})
        await root.call("tenants.create", {"name": "bolt"})
        await root.call("tenants.update", {"name": "acme", "state": "suspended"})
        await root.call("tenants.delete", {"name": "bolt"})
        async with mock.connect(token="bob") as bob:
            await bob.call("rpc.ping")
    async with hub_in(tmp_path, tenants_required=True) as mock, mock.connect(token="root") as root:
        found = (await root.call("tenants.list"))["tenants"]
        assert [(each["name"], each["state"], each["metadata"]) for each in found] == [("acme", "suspended", {"a": 1})]
        assert "suspended" in (await refused(mock, "ann")).message
        unknown = await refused(mock, "bob")
        assert (unknown.code, "no tenant 'bolt'" in unknown.message) == (ErrorCode.FORBIDDEN, True)
        async with mock.connect(token="dora") as dora:
            await dora.call("rpc.ping")


async def test_a_damaged_record_lets_nobody_in(tmp_path: Path) -> None:
    async with hub_in(tmp_path) as mock, mock.connect(token="root") as root:
        await root.call("tenants.create", {"name": "acme"})
    with sqlite3.connect(tmp_path / "data" / FOLDER / FILE) as file:
        file.execute("UPDATE tenants SET record = replace(record, 'active', 'Active')")
    file.close()
    with pytest.raises(Exception, match="record of tenant 'acme' is not what was written"):
        await hub_in(tmp_path).__aenter__()


@method("work", idempotent=True)
async def work(name: str) -> str:
    """Take a job's time."""
    return name


async def test_deleting_says_what_there_is_and_purge_removes_it(mock: MockHub, root: Hub, tmp_path: Path) -> None:
    mock.method("work", work)
    for folder in ("acme", "bolt"):
        (make_tenant_folder(tmp_path / "data", folder) / "collections" / "docs").mkdir(parents=True)
    async with mock.connect(token="ann") as ann, mock.connect(token="bob") as bob:
        for hub in (ann, bob):
            await hub.call("jobs.create", {"method": "work", "params": {"name": "x"}})
        error = await error_of(root, "tenants.delete", name="acme")
        assert (error.code, error.data["has"]) == (
            ErrorCode.INVALID_CONFIGURATION,
            {"collections": 1, "jobs": 1, "connections": 1, "sessions": 1, "conversations": 0},
        )
        assert "purge" in error.message
        deleted = await root.call("tenants.delete", {"name": "acme", "purge": True})
        assert deleted["removed"] == error.data["has"]
        assert (await asyncio.wait_for(ann.closed, PATIENCE)).code == 4502
        assert not tenant_folder(tmp_path / "data", "acme").exists()
        assert (tmp_path / "data" / "tenants" / "bolt" / "collections" / "docs").is_dir()
        assert len((await bob.call("jobs.list"))["jobs"]) == 1
    assert (await root.call("tenants.list"))["tenants"] == []
    async with mock.connect(token="ann") as ann:
        assert (await ann.call("jobs.list"))["jobs"] == []


async def test_jobs_of_a_suspended_tenant_are_not_begun(
    mock: MockHub, root: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.jobs.job_runner.HELD_PAUSE", 0.01)
    free, ran = asyncio.Event(), list[str]()

    @method("turn", idempotent=True)
    async def turn(name: str) -> None:
        """Wait until all may run."""
        await free.wait()
        ran.append(name)

    mock.method("turn", turn)
    await root.call("tenants.create", {"name": "acme"})
    async with mock.connect(token="ann") as ann, mock.connect(token="bob") as bob:
        for hub, names in ((bob, ["b0"]), (ann, ["a"]), (bob, ["b4"])):
            for name in names:
                await hub.call("jobs.create", {"method": "turn", "params": {"name": name}})
    await root.call("tenants.update", {"name": "acme", "state": "suspended"})
    free.set()
    await until(lambda: {"b0", "b4"} <= set(ran), "the others have run")
    assert "a" not in ran
    await root.call("tenants.update", {"name": "acme", "state": "active"})
    await until(lambda: "a" in ran, "it runs")


async def used(root: Hub, tenant: str, **days: str) -> dict[str, Any]:
    found: dict[str, Any] = await root.call("tenants.usage", {"tenant": tenant, **days})
    return found


async def test_what_each_used_is_counted_and_survives(tmp_path: Path) -> None:
    async with hub_in(tmp_path) as mock, mock.connect(token="root") as root:
        mock.method("echo", lambda text: text)
        mock.method("outer", outer)
        await root.call("echo", {"text": "unseen"})
        assert not (tmp_path / "data" / FOLDER).exists(), "nothing is counted before there is a tenant"
        async with mock.connect(token="ann", session=False) as ann, mock.connect(token="bob", session=False) as bob:
            for text in ("a", "bb"):
                await ann.call("echo", {"text": text})
            await bob.call("outer")
            await error_of(ann, "nothing.there")
        (day,) = (await used(root, "acme"))["days"]
        assert (day["calls"], day["failed"]) == (3, 1)
        assert (day["bytes_in"], day["bytes_out"]) == (len('{"text":"a"}{"text":"bb"}{}'), len('"a""bb"'))
        (day,) = (await used(root, "bolt"))["days"]
        assert (day["calls"], day["failed"]) == (1, 0), "what a method calls is not one more"
        assert 0 < day["executor_seconds"] < PATIENCE
        assert (await used(root, "acme", to="2026-01-01"))["days"] == []
        assert (await used(root, "nobody"))["days"] == []
        assert (await error_of(root, "tenants.usage", tenant="acme", to="today")).code == ErrorCode.INVALID_PARAMS
    async with hub_in(tmp_path) as mock, mock.connect(token="root") as root:
        mock.method("echo", lambda text: text)
        async with mock.connect(token="ann", session=False) as ann:
            await ann.call("echo", {"text": "c"})
        (day,) = (await used(root, "acme"))["days"]
        assert day["calls"] == 4
        await root.call("tenants.create", {"name": "acme"})
        await root.call("tenants.delete", {"name": "acme", "purge": True})
        assert (await used(root, "acme"))["days"] == []


async def outer(ctx: Context) -> Any:
    return await ctx.call("echo", {"text": "inner"})


class Held:
    """Holdings whose removal does not come to its end."""

    def __init__(self) -> None:
        self.failures = 0
        self.purged: list[str] = []

    async def counted(self, tenant: str) -> TenantThings:
        return TenantThings(jobs=1)

    async def stored(self, tenant: str) -> tuple[int, int, int]:
        return 0, 0, 0

    def disconnect(self, tenant: str, reason: str) -> TenantThings:
        return TenantThings(connections=2)

    async def purge(self, tenant: str) -> TenantThings:
        if self.failures:
            self.failures -= 1
            raise RpcError(ErrorCode.WORKER_UNAVAILABLE, "no executor is ready")
        self.purged.append(tenant)
        return TenantThings(jobs=1)


def tenants_in(folder: Path, holdings: Held) -> Tenants:
    return Tenants(TenantStore(folder), holdings, required=False, changed=lambda _tenant: None)


async def test_what_was_being_removed_is_removed_by_the_next_hub(tmp_path: Path) -> None:
    holdings = Held()
    holdings.failures = 1_000_000
    first = tenants_in(tmp_path, holdings)
    first.open()
    asking = asyncio.ensure_future(first._delete(TenantDeleteParams("acme", purge=True)))
    await until(lambda: holdings.failures < 1_000_000, "it has been tried")
    with pytest.raises(RpcError, match="tenant 'acme' is being deleted"):
        first.admitted(Principal("ann", tenant="acme"))
    assert first.holds("acme")
    with pytest.raises(RpcError, match="tenant 'acme' is being deleted"):
        await first._create(TenantCreateParams("acme"))
    asking.cancel()
    await first.close()
    holdings.failures = 0
    second = tenants_in(tmp_path, holdings)
    second.open()
    assert second.holds("acme")
    second.start()
    await until(lambda: holdings.purged == ["acme"] and not second.holds("acme"), "it is removed")
    await second.close()
    left = TenantStore(tmp_path)
    assert left.load() == []
    left.close()


async def test_what_cannot_be_removed_yet_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.control.tenants.AGAIN_SECONDS", 0.01)
    holdings = Held()
    holdings.failures = 3
    tenants = tenants_in(tmp_path, holdings)
    tenants.open()
    deleted = await tenants._delete(TenantDeleteParams("acme", purge=True))
    assert deleted.removed == TenantThings(jobs=1, connections=8)
    await tenants.close()
