"""Embeds texts for other packs, by calling ``embeddings.create`` wherever it runs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trunkline import Context
from trunkline.background import start_task

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXTS_PER_CALL: Final = 32
"""Few enough that a query which comes in between does not wait long."""
CALLS_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of length 1, a row a text, the name of the model that made them, and the tokens it read, if it tells."""

    model: str
    vectors: NDArray[np.float32]
    tokens: int | None = None


async def embed(ctx: Context, texts: Sequence[str]) -> Embedded:
    """Embed texts, at least one. Many texts become several calls, a few at a time, so that the executors share them.

    Raises:
        RpcError: the error of ``embeddings.create``; the calls that still run are cancelled.
    """
    gate = asyncio.Semaphore(CALLS_AT_ONCE)

    async def call(part: Sequence[str]) -> Any:
        async with gate:
            return await ctx.call("embeddings.create", {"input": part, "encoding_format": "base64"})

    parts = [texts[start : start + TEXTS_PER_CALL] for start in range(0, len(texts), TEXTS_PER_CALL)]
    tasks = [start_task(call(part), "embed", expected=Exception) for part in parts]
    try:
        answers = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    rows = [base64.b64decode(item["embedding"]) for answer in answers for item in answer["data"]]
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), -1)
    return Embedded(answers[0]["model"], vectors, _tokens(answers))


def _tokens(answers: Sequence[Any]) -> int | None:
    """The tokens that were read; None where a method of one's own does not say."""
    if not all("usage" in answer for answer in answers):
        return None
    tokens: int = sum(answer["usage"]["prompt_tokens"] for answer in answers)
    return tokens
