"""The examples of SPEC.md are what a hub really sends and takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.exchanges import Exchange, Taken, exchanges_of
from tests.support.hub import MODULES, RunningHub, ready_hub

SPEC = (Path(__file__).parents[2] / "protocol" / "SPEC.md").read_text()
EXCHANGES = list(exchanges_of(SPEC))


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[RunningHub]:
    with ready_hub("specified", cwd=MODULES, executors=2) as hub:
        yield hub


@pytest.fixture
def hub(exchange: Exchange, request: pytest.FixtureRequest) -> Iterator[RunningHub]:
    """The shared hub, or one with the settings of the exchange."""
    if not exchange.is_alone:
        yield request.getfixturevalue("shared_hub")
        return
    with ready_hub("specified", cwd=MODULES, executors=2, env=exchange.settings) as own:
        yield own


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[f"{each.section}, line {each.line}" for each in EXCHANGES])
async def test_exchange(exchange: Exchange, hub: RunningHub) -> None:
    async with AsyncExitStack() as stack:
        taken = Taken(hub, exchange.path, stack)
        for step in exchange.steps:
            try:
                await taken.take(step)
            except Exception as error:
                error.add_note(f"SPEC.md, {exchange.section}: {step}")
                raise
