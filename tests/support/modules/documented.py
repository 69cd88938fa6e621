"""Methods by the names of the packs', so that README's commands run where no model is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from trunkline import StreamChunk, method


@method("rag.execute", idempotent=True)
async def execute(query: str, technique: str = "basic") -> dict[str, Any]:
    return {"answer": f"{technique}: {query}"}


@method("rag.stream")
async def stream(query: str, technique: str = "basic") -> AsyncIterator[StreamChunk]:
    yield StreamChunk("partial_answer", {"text": f"{technique}: {query}"})
