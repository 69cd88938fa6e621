"""A methods module that takes its time to load."""

import asyncio
from typing import Any

from trunkline import method


class Pack:
    async def load(self, settings: dict[str, Any]) -> None:
        await asyncio.sleep(0.8)

    @method("slow.ping")
    async def ping(self) -> str:
        return "pong"
