"""The pack ``rag``: retrieval-augmented answers, whole (``rag.execute``) or while they are made (``rag.stream``).

It embeds and searches through the hub, so it runs on any executor, whoever owns the collection. Answers are written
by the model behind ``TRUNKLINE_LLM_BASE_URL`` where that is set, else extracted: made of the documents' own
sentences. The techniques are ``basic``, which retrieves by meaning, ``hybrid``, by meaning and words, and
``extractive``: ``basic`` with an extracted answer, whatever model is set.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

from pydantic import ValidationError

from trunkline import Chunk, Context, ErrorCode, RpcError, method
from trunkline.methods.caching import Cleared
from trunkline.methods.rag.asked import (
    Asked,
    GivenParams,
    GivenTechnique,
    KnownPipelines,
    checked,
    problems_of,
    unknown_technique,
)
from trunkline.methods.rag.conversing import Place, place_of
from trunkline.methods.rag.extractive import ExtractiveGenerator
from trunkline.methods.rag.fallback import Answering
from trunkline.methods.rag.follow_up import Question, understood
from trunkline.methods.rag.generated import OpenAIGenerator
from trunkline.methods.rag.responses import ResponseCache, ResponseSettings
from trunkline.methods.rag.retrieval import BasicParams, Generator, HybridParams, RagOptions, RagRun, basic
from trunkline.methods.rag.signatures import (
    Answer,
    AnswerChunk,
    Checked,
    EndpointFailure,
    GivenConfig,
    History,
    InvalidConfig,
    Query,
    TechniqueName,
)

Technique = Callable[[RagRun, Generator, Context], AsyncGenerator[Chunk, None]]

TECHNIQUES: Final[dict[str, tuple[Technique, type[BasicParams]]]] = {
    "basic": (basic, BasicParams),
    "hybrid": (basic, HybridParams),
    "extractive": (basic, BasicParams),
}
"""Name -> the function that runs a technique, and the model of its ``technique_params``."""


ERRORS: Final = {
    ErrorCode.PIPELINE_NOT_FOUND: None,
    ErrorCode.INVALID_CONFIGURATION: None,
    ErrorCode.PIPELINE_EXECUTION_ERROR: EndpointFailure,
    ErrorCode.COMMUNICATION_TIMEOUT: None,
    ErrorCode.DATABASE_CONNECTION_ERROR: None,
}
"""What ``rag.execute`` and ``rag.stream`` raise, see there."""


def params_of(technique: str) -> type[BasicParams]:
    """The params of a technique; of one that there is not, those of ``basic``."""
    return TECHNIQUES.get(technique, TECHNIQUES["basic"])[1]


class RagMethods:
    """The techniques, and the generator the settings chose."""

    def __init__(self) -> None:
        self._extractive = ExtractiveGenerator()
        self._generator: Generator = self._extractive
        self._pipelines = KnownPipelines()
        self._responses = ResponseCache(ResponseSettings())

    def load(self, settings: Mapping[str, Any]) -> None:
        """Extract answers, or have them written where ``settings["llm_base_url"]`` is set.

        Raises:
            RpcError: 4001, an endpoint without ``llm_model``; 4002, the library ``openai`` is not installed.
        """
        self._responses = ResponseCache(ResponseSettings.of(settings))
        base_url, model = settings.get("llm_base_url"), settings.get("llm_model")
        if base_url is None:
            return
        if not model:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION, "TRUNKLINE_LLM_BASE_URL is set: set TRUNKLINE_LLM_MODEL, too"
            )
        try:
            self._generator = OpenAIGenerator(base_url, model, settings.get("llm_api_key"))
        except ModuleNotFoundError as error:
            raise RpcError(
                ErrorCode.MISSING_DEPENDENCIES, "TRUNKLINE_LLM_BASE_URL needs openai: pip install 'trunkline[ml]'"
            ) from error

    def cache_names(self) -> list[str]:
        """The caches that :meth:`clear_cache` knows."""
        return ["responses", "pipelines"]

    def clear_cache(self, cache_type: str) -> dict[str, Cleared]:
        """Forget answers (``responses``) or parsed pipelines (``pipelines``), or both (``all``)."""
        clear = {"responses": self._responses.clear, "pipelines": self._pipelines.clear}
        return {name: function() for name, function in clear.items() if cache_type in (name, "all")}

    async def close(self) -> None:
        """Close the connections to the language model's endpoint."""
        if isinstance(self._generator, OpenAIGenerator):
            await self._generator.close()

    @method(
        "rag.check", idempotent=True, technique="technique", errors={ErrorCode.INVALID_CONFIGURATION: InvalidConfig}
    )
    async def check(self, technique: GivenTechnique, config: GivenConfig | None = None) -> Checked:
        """Check a technique and its config, as pipeline.initialize does; nothing is run.

        Raises:
            RpcError: 4001, with all that is wrong in ``data.errors``, by path.
        """
        checked(technique, config or {}, TECHNIQUES)
        return {"technique": cast("TechniqueName", technique), "config": config or {}}

    @method(
        "rag.execute",
        idempotent=True,
        timeout_ms=120_000,
        max_timeout_ms=600_000,
        runs_as="method",
        technique="technique",
        errors=ERRORS,
    )
    async def execute(
        self,
        query: Query,
        ctx: Context,
        technique: GivenTechnique | None = None,
        options: RagOptions | None = None,
        technique_params: GivenParams | None = None,
        pipeline_id: str | None = None,
        fallback: GivenTechnique | None = None,
        history: History | None = None,
        conversation_id: str | None = None,
    ) -> Answer:
        """Answer a question from a collection, with the passages it came from.

        The technique is ``basic`` where none is given. With a pipeline it is that of the pipeline, as are the options
        and params that the call does not give. Where the technique fails, ``fallback`` is tried in the time that is
        left. With a ``history``, or in a conversation, it may be a follow-up, which is rewritten so that it stands
        alone; in a conversation question and answer are kept.

        Raises:
            RpcError: 3001, unknown technique or pipeline; -32602, unknown or wrong options; 4001, no such collection,
                or one of another model; 3003, 1002 or 5001, the language model failed.
        """
        asked = await self._asked(ctx, Asked(technique, options, technique_params, fallback), pipeline_id)
        async with place_of(ctx, query, conversation_id, history) as place:
            answering = await self._answering(query, ctx, asked, place)
            async with aclosing(answering.chunks(streams=False)) as source:
                async for _ in source:
                    pass
            place.run = answering.run
        return cast("Answer", answering.run.result(ctx.worker_id))

    @method(
        "rag.stream",
        idempotent=True,
        timeout_ms=120_000,
        max_timeout_ms=600_000,
        runs_as="method",
        technique="technique",
        result=Answer,
        errors=ERRORS,
    )
    async def stream(
        self,
        query: Query,
        ctx: Context,
        technique: GivenTechnique | None = None,
        options: RagOptions | None = None,
        technique_params: GivenParams | None = None,
        pipeline_id: str | None = None,
        fallback: GivenTechnique | None = None,
        history: History | None = None,
        conversation_id: str | None = None,
    ) -> AsyncIterator[AnswerChunk]:
        """Answer a question, streaming documents and parts of the answer; the result is that of ``rag.execute``.

        Chunks, by type: one ``metadata``; a ``document`` for each that was retrieved; then ``partial_answer``, whose
        texts, joined, are the answer.

        Raises:
            RpcError: as ``rag.execute``.
        """
        asked = await self._asked(ctx, Asked(technique, options, technique_params, fallback), pipeline_id)
        async with place_of(ctx, query, conversation_id, history) as place:
            answering = await self._answering(query, ctx, asked, place)
            async with aclosing(answering.chunks(streams=True)) as source:
                async for chunk in source:
                    place.run = answering.run
                    yield cast("AnswerChunk", chunk)
            place.run = answering.run
        ctx.set_result(answering.run.result(ctx.worker_id))

    async def _answering(self, query: str, ctx: Context, asked: Asked, place: Place) -> Answering:
        """The answering of a question, begun; a follow-up is rewritten before."""
        model = self._generator if isinstance(self._generator, OpenAIGenerator) else None
        question = await understood(query, place.history, None if asked.technique == "extractive" else model)
        question.details.update(place.details)
        return Answering(asked, lambda each: self._begin(question, ctx, each), params_of)

    async def _asked(self, ctx: Context, given: Asked, pipeline_id: str | None) -> Asked:
        """What a call asks for: what it gives, over that of its pipeline.

        Raises:
            RpcError: 3001, the hub knows no such pipeline; -32602, it is one of another technique.
        """
        if pipeline_id is None:
            return given
        try:
            found = await ctx.call("pipeline.get", {"pipeline_id": pipeline_id})
        except RpcError as error:
            words = f"{ctx.method}: {error.message}"
            raise RpcError(error.code, words, maybe_executed=False, data=error.data) from None
        pipeline = self._pipelines.parsed(found, TECHNIQUES)
        if given.technique not in (None, pipeline.technique):
            words = f"technique: pipeline {pipeline_id!r:.80} is one of {pipeline.technique}; leave technique out"
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{ctx.method}: {words}")
        return given.over(pipeline)

    def _begin(self, question: Question, ctx: Context, asked: Asked) -> tuple[RagRun, AsyncGenerator[Chunk, None]]:
        """Check what depends on the technique, and start.

        Raises:
            RpcError: 3001 or -32602.
        """
        technique = asked.technique or "basic"
        if technique not in TECHNIQUES:
            words = f"{ctx.method}: {unknown_technique(technique, TECHNIQUES)}"
            raise RpcError(ErrorCode.PIPELINE_NOT_FOUND, words, maybe_executed=False)
        execute, model = TECHNIQUES[technique]
        generator = self._extractive if technique == "extractive" else self._generator
        try:
            params = model.model_validate(asked.technique_params or {})
        except ValidationError as error:
            path, words = problems_of(error, "technique_params")[0]
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{ctx.method}: {path}: {words}") from None
        run = RagRun(technique, question.query, asked.options or RagOptions(), params, generator.name)
        run.asked = question.asked
        run.details.update(question.details)
        chunks = execute(run, generator, ctx)
        return run, self._responses.through(run, chunks, ctx) if self._responses.wanted(run) else chunks
