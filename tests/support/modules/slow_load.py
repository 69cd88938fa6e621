"""A methods module that takes its time to load, perhaps until a file is there: ``SLOW_LOAD_UNTIL``."""

import asyncio
import os
from pathlib import Path
from typing import Any

from trunkline import method


def is_there(marker: str) -> bool:
    """Whether the test has made the file for which loading waits, if any."""
    return Path(marker).exists()


class Pack:
    async def load(self, settings: dict[str, Any]) -> None:
        await asyncio.sleep(0.8)
        if marker := os.environ.get("SLOW_LOAD_UNTIL"):
            while not is_there(marker):
                await asyncio.sleep(0.005)

    @method("slow.ping")
    async def ping(self) -> str:
        return "pong"
