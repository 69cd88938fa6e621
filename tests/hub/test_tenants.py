"""What is kept by principal: two of one name, of two tenants, share nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hub.tenants import as_one_of, hub_of_tenants
from trunkline.testing import MockHub


@pytest.fixture
async def mock(tmp_path: Path) -> AsyncIterator[MockHub]:
    async with hub_of_tenants(tmp_path) as mock:
        yield mock


async def test_an_idempotency_key_is_its_tenants(mock: MockHub) -> None:
    runs = []

    def work(n: int) -> int:
        runs.append(n)
        return len(runs)

    mock.method("work.do", work)
    async with as_one_of(mock, "acme") as acme, as_one_of(mock, "bolt") as bolt, as_one_of(mock, "default") as other:
        anns = (acme, bolt, other, acme, bolt, other)
        results = [await ann.result("work.do", {"n": 1}, metadata={"idempotency_key": "k"}) for ann in anns]
        foreign = await bolt.result("work.do", {"n": 2}, metadata={"idempotency_key": "k2"})
        own = await acme.result("work.do", {"n": 3}, metadata={"idempotency_key": "k2"})
    assert (results, foreign, own) == ([1, 2, 3, 1, 2, 3], 4, 5)
