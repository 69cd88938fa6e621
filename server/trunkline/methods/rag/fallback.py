"""Fallback: where a technique fails, another one answers, in the time that is left, and the result says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from trunkline import Chunk, ErrorCode, RpcError
from trunkline.methods.rag.asked import Asked
from trunkline.methods.rag.retrieval import BasicParams, RagRun

RECOVERABLE: Final = frozenset(
    {
        ErrorCode.COMMUNICATION_TIMEOUT,
        ErrorCode.PIPELINE_INITIALIZATION_FAILED,
        ErrorCode.PIPELINE_EXECUTION_ERROR,
        ErrorCode.MISSING_DEPENDENCIES,
        ErrorCode.DATABASE_CONNECTION_ERROR,
        ErrorCode.RESOURCE_EXHAUSTED,
        ErrorCode.WORKER_UNAVAILABLE,
    }
)
"""Errors of a technique, or of what it stands on, that another technique may not have; the others are the call's."""

Begin = Callable[[Asked], tuple[RagRun, AsyncGenerator[Chunk, None]]]


class Answering:
    """One question, answered by the technique that was asked for, or by its fallback.

    Args:
        asked: what the call asks for.
        begin: starts a technique.
        params: the params that each technique knows.

    Attributes:
        run: of the technique that has answered.
    """

    def __init__(self, asked: Asked, begin: Begin, params: Callable[[str], type[BasicParams]]) -> None:
        self._asked = asked
        self._begin = begin
        self._params = params
        self.run, self._chunks = begin(asked)

    async def chunks(self, *, streams: bool) -> AsyncGenerator[Chunk, None]:
        """The chunks of the answer.

        Args:
            streams: whether the caller gets them: then nothing is tried again once there was one.

        Raises:
            RpcError: of the technique, or of its fallback.
        """
        error = None
        begun = False
        try:
            async with aclosing(self._chunks) as source:
                async for chunk in source:
                    begun = True
                    yield chunk
        except RpcError as failure:
            if self._asked.fallback is None or (begun and streams) or failure.code not in RECOVERABLE:
                raise
            error = failure
        if error is not None:
            async for chunk in self._fall_back(error):
                yield chunk

    async def _fall_back(self, error: RpcError) -> AsyncGenerator[Chunk, None]:
        fallback = self._asked.fallback
        assert fallback is not None
        failed = self.run.technique
        self.run, chunks = self._begin(self._asked.fallen_back(self._params(fallback)))
        self.run.details["fallback"] = {
            "from": failed,
            "code": error.code,
            "type": error.name,
            "message": error.message,
        }
        async with aclosing(chunks) as source:
            async for chunk in source:
                yield chunk
