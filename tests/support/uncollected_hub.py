"""A hub whose collector of cycles never runs. Started as a program, it says what objects there are when it is asked.

The first line it writes is its port; each line it reads is answered by one of JSON: how many objects there are of each
type, those from before it listened left out. What only the collector would free is still there.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections import Counter
from pathlib import Path

from tests.support.timing import SCALE
from trunkline.config import load_settings
from trunkline.hosting.lifecycle import HubProcess
from trunkline.hosting.runtime import event_loop_runner


def census() -> str:
    """The objects there are, by type."""
    found = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return json.dumps(found)


async def serve(folder: Path) -> None:
    settings = load_settings(
        None,
        port=0,
        packs="none",
        demo=False,
        methods="trunkline.methods.debug",
        executors=1,
        data=folder / "data",
        uds_framed=folder / "framed.sock",
        session_seconds=1.5 * SCALE,  # who comes back at once has to be in time
    )
    hub = HubProcess(settings)
    loop = asyncio.get_running_loop()

    def listening(addresses: list[str]) -> None:
        port = next(address for address in addresses if address.startswith("ws:")).rpartition(":")[2]
        loop.call_soon(begin, port.partition("/")[0])

    def begin(port: str) -> None:
        gc.disable()
        threading.Thread(target=answer, args=(port,), daemon=True).start()

    def answer(port: str) -> None:
        print(port, flush=True)
        for _ in sys.stdin:
            loop.call_soon_threadsafe(lambda: print(census(), flush=True))
        loop.call_soon_threadsafe(hub.stop)

    await hub.run(listening)


if __name__ == "__main__":
    event_loop_runner()(serve(Path(sys.argv[1])))
