"""What is kept of tenants on disk: records, and what each used by day."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.doubles import Asked
from trunkline import RpcError
from trunkline.control.tenant_store import FOLDER, TenantStore
from trunkline.control.tenant_usage import TenantUsage
from trunkline.hub.principal import Principal
from trunkline_protocol.tenant_messages import TenantView


def test_the_store_says_what_it_was_told(tmp_path: Path) -> None:
    store, records = TenantStore(tmp_path), [TenantView(name=name, created_at=1) for name in ("b", "a", "\u65e5 x")]
    assert store.load() == []
    for record in records:
        store.put(record)
    store.remove("b")
    store.close()
    again = TenantStore(tmp_path)
    assert {each.name for each in again.load()} == {"a", "\u65e5 x"}
    with pytest.raises(RpcError, match="has it open"):
        TenantStore(tmp_path).load()
    again.close()


async def test_what_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    store = TenantStore(tmp_path)
    usage = TenantUsage(store, asyncio.Lock())
    who = Principal("ann", tenant="acme")
    usage.count(Asked("m", {}, who), 0)
    (tmp_path / FOLDER).write_text("no folder")
    await usage._write()
    usage.count(Asked("m", {}, who), 1)
    (tmp_path / FOLDER).unlink()
    (counted,) = await usage.of("acme", "2000-01-01", "9999-12-31")
    assert (counted.calls, counted.failed, counted.bytes_in, counted.executor_seconds) == (2, 1, 4, 0)
    await usage.close()
    store.close()


async def test_days_follow_each_other_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = TenantStore(tmp_path), [1_772_000_000.0]
    monkeypatch.setattr("trunkline.control.tenant_usage.time.time", lambda: now[0])
    usage, call = TenantUsage(store, asyncio.Lock()), Asked("m", {}, Principal("ann", tenant="acme"))
    days = []
    for later in (0, 1, 399, 401):
        now[0] = 1_772_000_000.0 + later * 86_400
        await usage._write()
        usage.count(call, 0)
        days = [each.day for each in await usage.of("acme", "2000-01-01", "9999-12-31")]
    assert days == ["2026-02-26", "2027-03-31", "2027-04-02"], "the first is older than 400 days"
    store.close()
