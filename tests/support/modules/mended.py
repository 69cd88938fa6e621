"""A methods module whose load step fails while the file MENDED_BY is not there."""

import os
from pathlib import Path
from typing import Any

from trunkline import ErrorCode, RpcError, method


class Pack:
    def load(self, settings: dict[str, Any]) -> None:
        if not Path(os.environ["MENDED_BY"]).exists():
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, "weights.bin is not there; fetch it")

    @method("mended.ping", idempotent=True)
    async def ping(self) -> str:
        return "pong"
