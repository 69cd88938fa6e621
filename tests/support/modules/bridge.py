"""What packs serve, without their libraries: the methods that dialects stand for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from trunkline import Chunk, Context, ErrorCode, RpcError, method


@method("rag.execute", timeout_ms=5000)
async def execute(query: str, ctx: Context, technique: str = "basic", options: dict[str, Any] | None = None) -> Any:
    return {"answer": query.upper(), "technique": technique, "options": options, "metadata": ctx.metadata}


@method("rag.stream")
async def stream(query: str, ctx: Context, fail_at: int | None = None) -> AsyncIterator[Chunk]:
    yield Chunk("metadata", {"technique": "basic"})
    yield Chunk("document", {"id": "d", "text": "not part of the answer"})
    for index, word in enumerate(query.split()):
        if index == fail_at:
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, "the model went away")
        yield Chunk("partial_answer", {"text": word + "\n"})
    ctx.set_result({"answer": query})


@method("collections.list")
async def collections(ctx: Context) -> Any:
    return {"collections": [], "tenant": ctx.metadata.get("tenant")}


@method("dspy.optimize_signature")
async def optimize(signature: dict[str, Any], training_data: list[Any], config: dict[str, Any] | None = None) -> Any:
    return {
        "optimized_signature": signature,
        "optimization_metrics": {"examples": len(training_data), "padding": "x" * (config or {}).get("padding", 0)},
        "status": "success",
    }


@method("dspy.evaluate_pipeline")
async def evaluate(error: str) -> None:
    raise ImportError(error) if error == "import" else RuntimeError(error)
