"""What a bundle says of the hub: the answers to its own methods, one event of some topics, and the metrics page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from trunkline.cli.bundle.parts import Part, in_thread, now, part
from trunkline.cli.metrics_page import metrics_page
from trunkline.cli.talk import why_no_answer
from trunkline.client import Event, Hub, Subscription, connect

ASKED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "health.json": ("health.detailed", {}),
    "system.json": ("system.info", {}),
    "settings.json": ("config.get", {}),
    "figures.json": ("metrics.get", {}),
    "figures_5m.json": ("metrics.get", {"time_range": "5m"}),
    "calls.json": ("system.calls", {"limit": 500}),
    "topics.json": ("system.topics", {"limit": 500}),
    "jobs.json": ("jobs.list", {"limit": 200}),
    "methods.json": ("rpc.discover", {}),
}
"""Files, with the method whose result each has. Failed calls are in ``figures``, and of each method in ``health``."""

RATES: Final = "system.metrics"
HEARD: Final = {
    "executors.json": "system.executors",
    "connections.json": "system.connections",
    "rates.json": RATES,
}
"""Files, with the topic whose next event each has."""

LOG: Final = "log.json"
LOGS: Final = "system.logs"
ARRIVES_SECONDS: Final = 0.2

METRICS: Final = "metrics.txt"


async def hub_parts(url: str, token: str | None, seconds: float) -> list[Part]:
    """All that the hub says, each within some seconds; where there is no connection, every part says why."""
    at = now()
    page = asyncio.ensure_future(part(METRICS, lambda: in_thread(lambda: metrics_page(url, token, seconds)), seconds))
    try:
        async with _connected(url, token, seconds) as hub:
            found = await asyncio.gather(*(part(name, make, seconds) for name, make in _sources(hub, seconds).items()))
    except Exception as error:  # as where the URL is none
        why = f"no connection: {why_no_answer(error, token, seconds)}"
        found = [Part(name, None, why, at) for name in (*ASKED, *HEARD, LOG)]
    return [*found, await page]


@contextlib.asynccontextmanager
async def _connected(url: str, token: str | None, seconds: float) -> AsyncIterator[Hub]:
    hub = await connect(url, token=token, open_timeout=seconds, reconnect=False)
    try:
        yield hub
    finally:
        with contextlib.suppress(TimeoutError):  # a hub that hangs does not answer this either
            async with asyncio.timeout(seconds):
                await hub.close()


def _sources(hub: Hub, seconds: float) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    def asked(method: str, params: dict[str, Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
        return lambda: hub.call(method, params, timeout_ms=round(1000 * seconds), retry=False)

    def heard(topic: str) -> Callable[[], Coroutine[Any, Any, Any]]:
        return lambda: next_event(hub, topic)

    calls = {name: asked(method, params) for name, (method, params) in ASKED.items()}
    return calls | {name: heard(topic) for name, topic in HEARD.items()} | {LOG: lambda: latest_log(hub)}


async def next_event(hub: Hub, topic: str) -> Any:
    """The data of the next event of a topic.

    Raises:
        RpcError: the topic may not be subscribed to.
        LookupError: the subscription has ended without one.
    """
    async with hub.subscribe(topic) as events:
        return await _nth(events, 1)


async def latest_log(hub: Hub) -> Any:
    """The last records of the hub's log; none where somebody watches it, who has got them, or nothing was logged.

    The hub says what it has within a quarter of a second, and rates once a second: after two of these there is none.

    Raises:
        RpcError: the topic may not be subscribed to.
    """
    async with hub.subscribe(LOGS) as logs, hub.subscribe(RATES) as rates:
        said, passed = asyncio.ensure_future(_nth(logs, 1)), asyncio.ensure_future(_nth(rates, 2))
        try:
            await asyncio.wait({said, passed}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({said}, timeout=ARRIVES_SECONDS)
            return said.result() if said.done() else {"records": [], "dropped": 0}
        finally:
            said.cancel()
            passed.cancel()


async def _nth(events: Subscription, number: int) -> Any:
    async for item in events:
        if isinstance(item, Event):
            number -= 1
            if not number:
                return item.data
    raise LookupError("the subscription has ended without an event")
