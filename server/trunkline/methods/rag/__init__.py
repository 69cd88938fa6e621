"""Retrieval-augmented answers: ``rag.execute`` and ``rag.stream``.

Embeds and searches through the hub, so that it runs on any executor whoever owns the collection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from trunkline.methods.context import Chunk, Context
from trunkline.methods.rag.extractive import ExtractiveGenerator, ExtractiveParams
from trunkline.methods.rag.generated import GeneratedParams, OpenAIGenerator
from trunkline.methods.rag.retrieval import Generator, Options, Run, basic
from trunkline.methods.registry import method
from trunkline_protocol.errors import ErrorCode, RpcError

Query = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S")]
Technique = Callable[[Run, Generator, Context], AsyncIterator[Chunk]]

TECHNIQUES: Final[dict[str, Technique]] = {"basic": basic}


class Rag:
    """The techniques, and the generator the settings chose."""

    def __init__(self) -> None:
        self._generator: Generator = ExtractiveGenerator()

    def load(self, settings: Mapping[str, Any]) -> None:
        """Extract answers, or have them written where an endpoint is configured."""
        base_url, model = settings.get("llm_base_url"), settings.get("llm_model")
        if base_url is not None:
            if model is None:
                raise RpcError(
                    ErrorCode.INVALID_CONFIGURATION, "TRUNKLINE_LLM_BASE_URL is set: set TRUNKLINE_LLM_MODEL, too"
                )
            self._generator = OpenAIGenerator(base_url, model, settings.get("llm_api_key"))

    @method("rag.execute", idempotent=True)
    async def execute(
        self,
        query: Query,
        ctx: Context,
        technique: str = "basic",
        options: Options | None = None,
        technique_params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Answer a question from a collection, with the passages it came from."""
        run = self._run(technique, query, options, technique_params)
        async for _chunk in TECHNIQUES[technique](run, self._generator, ctx):
            pass
        return run.result(ctx.worker_id)

    @method("rag.stream", idempotent=True)
    async def stream(
        self,
        query: Query,
        ctx: Context,
        technique: str = "basic",
        options: Options | None = None,
        technique_params: dict[str, Any] | None = None,
    ) -> AsyncIterator[Chunk]:
        """Answer a question while it is being made: metadata, documents, then partial answers."""
        run = self._run(technique, query, options, technique_params)
        async for chunk in TECHNIQUES[technique](run, self._generator, ctx):
            yield chunk
        ctx.set_result(run.result(ctx.worker_id))

    def _run(self, technique: str, query: str, options: Options | None, technique_params: dict[str, Any] | None) -> Run:
        """Check what depends on each other.

        Raises:
            RpcError: 3001 for an unknown technique, -32602 for params that do not fit it.
        """
        if technique not in TECHNIQUES:
            raise RpcError(
                ErrorCode.PIPELINE_NOT_FOUND, f"no technique {technique!r:.80}; there are: {', '.join(TECHNIQUES)}"
            )
        params = technique_params or {}
        model = ExtractiveParams if isinstance(self._generator, ExtractiveGenerator) else GeneratedParams
        try:
            model.model_validate(params)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise RpcError(ErrorCode.INVALID_PARAMS, f"technique_params.{where}: {first['msg']}") from None
        return Run(technique, query, options or Options(), params, self._generator.name)
