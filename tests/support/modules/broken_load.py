"""A methods module whose load step fails."""

from typing import Any

from trunkline import ErrorCode, RpcError, method


class Pack:
    def load(self, settings: dict[str, Any]) -> None:
        raise RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, "no weights for model tiny-test; fetch them first")

    @method("broken.ping")
    async def ping(self) -> str:
        return "pong"
