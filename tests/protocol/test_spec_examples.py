"""The examples of SPEC.md are what a hub really sends and takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.exchanges import Exchange, Taken, exchanges_of
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.peer import peer

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


async def test_every_method_the_hub_answers_has_an_example(shared_hub: RunningHub) -> None:
    async with peer(shared_hub.url) as connection:
        document = await connection.result("rpc.discover")
    answered = {each["name"] for each in document["methods"] if each["x-trunkline"]["pack"] == "hub"}
    sent = {
        method
        for exchange in EXCHANGES
        for step in exchange.steps
        if step.is_sent
        for method in re.findall(r'"method":"([^"]+)"', step.body)
    }
    assert len(answered) > 15
    assert (answered | {"session.open", "session.close"}) - sent == set()


@pytest.mark.parametrize(
    "line",
    [
        '<-- {"jsonrpc":"2.0","id":1,"result":"B"}',
        '<-- {"jsonrpc":"2.0","id":1}',
        '<-- {"jsonrpc":"2.0","id":"1","result":"A"}',
        '<-- {"jsonrpc":"2.0","id":1,"result":"A","time_ms":1}',
        "<-- (closes 1000)",
    ],
)
async def test_an_example_that_lies_is_found(line: str, shared_hub: RunningHub) -> None:
    text = '```exchange\n--> {"jsonrpc":"2.0","id":1,"method":"text.upper","params":{"text":"a"}}\n' + line + "\n```\n"
    (exchange,) = exchanges_of(f"# A heading\n\n{text}")
    async with AsyncExitStack() as stack:
        taken = Taken(shared_hub, exchange.path, stack)
        await taken.take(exchange.steps[0])
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            await taken.take(exchange.steps[1])
