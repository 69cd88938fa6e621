"""A methods module whose import or load step raises what `except Exception` does not catch: see BROKEN_ODDLY."""

import os
from typing import Any

import endings

from trunkline import method

WHERE, _, KIND = os.environ["BROKEN_ODDLY"].partition(":")

if WHERE == "import":
    endings.end_badly(KIND)


class Pack:
    async def load(self, settings: dict[str, Any]) -> None:
        if WHERE == "load":
            endings.end_badly(KIND)

    @method("oddly.ping")
    async def ping(self) -> str:
        return "pong"
