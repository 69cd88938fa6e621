"""What methods count, from executors to ``/metrics``."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.timing import eventually


def shows(hub: RunningHub, *lines: str) -> bool:
    return set(lines) <= set(hub.get("/metrics").body.decode().splitlines())


async def test_methods_figures_are_on_the_page_and_outlive_their_executor() -> None:
    with ready_hub("counting", cwd=MODULES) as hub:
        async with peer(hub.url) as client:
            await client.call("counting.words", {"text": "one two three"})
            await client.call("counting.words", {"text": "eins", "language": "de"})
            counted = (
                'counting_words_total{language="en"} 3.0', 'counting_words_total{language="de"} 1.0',
                'counting_sizes_bucket{le="1.0"} 1.0', 'counting_sizes_bucket{le="10.0"} 2.0', "counting_sizes_sum 4.0",
            )  # fmt: skip
            await asyncio.to_thread(eventually, lambda: shows(hub, *counted), "both are on the page")
            first = await client.result("counting.pid")
            os.kill(first, signal.SIGKILL)
            assert await client.result("counting.words", {"text": "four five"}) == 2, "it waits for the next executor"
            assert await client.result("counting.pid") != first
            after = ('counting_words_total{language="en"} 5.0', 'counting_words_total{language="de"} 1.0')
            await asyncio.to_thread(eventually, lambda: shows(hub, *after), "what the first counted is kept")
