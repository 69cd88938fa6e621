"""The pack ``rag``: retrieval-augmented answers, whole (``rag.execute``) or while they are made (``rag.stream``).

It embeds and searches through the hub, so it runs on any executor, whoever owns the collection. Answers are written
by the model behind ``TRUNKLINE_LLM_BASE_URL`` where that is set, else extracted: made of the documents' own
sentences. The techniques are in :mod:`trunkline.methods.rag.techniques`, and what modules declare by ``@technique``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
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
)
from trunkline.methods.rag.completing import Completing
from trunkline.methods.rag.cross_encoder import CrossEncoderModel, cross_encoder
from trunkline.methods.rag.endpoints import endpoints_of
from trunkline.methods.rag.extractive import ExtractiveGenerator
from trunkline.methods.rag.fallback import Answering
from trunkline.methods.rag.generated import OpenAIGenerator
from trunkline.methods.rag.graph import graph
from trunkline.methods.rag.known import KnownTechniques
from trunkline.methods.rag.ranking import rerank
from trunkline.methods.rag.responses import ResponseCache, ResponseSettings
from trunkline.methods.rag.retrieval import (
    BasicParams,
    Generator,
    LanguageTag,
    RagOptions,
    RagRun,
    answered,
    in_language,
    retrieve,
)
from trunkline.methods.rag.searching import Services
from trunkline.methods.rag.signatures import (
    Answer,
    AnswerChunk,
    Checked,
    EndpointFailure,
    GivenConfig,
    InvalidConfig,
    Query,
    Retrieved,
)
from trunkline.methods.rag.spending import Spending
from trunkline.methods.rag.techniques import basic, extractive, hybrid
from trunkline.methods.rag.with_llm import crag, hyde, multi_query
from trunkline.methods.techniques import Techniques

TECHNIQUES: Final = (basic, crag, cross_encoder, extractive, graph, hybrid, hyde, multi_query, rerank)
"""Those that come with the pack; they are globals of this module, so that an executor's table has them."""


ERRORS: Final = {
    ErrorCode.PIPELINE_NOT_FOUND: None,
    ErrorCode.INVALID_CONFIGURATION: None,
    ErrorCode.PIPELINE_EXECUTION_ERROR: EndpointFailure,
    ErrorCode.COMMUNICATION_TIMEOUT: EndpointFailure,
    ErrorCode.DATABASE_CONNECTION_ERROR: None,
    ErrorCode.RESOURCE_EXHAUSTED: None,
    ErrorCode.WORKER_UNAVAILABLE: None,
}
"""What ``rag.execute`` and ``rag.stream`` raise, see there."""


class RagMethods:
    """The techniques, and the generator the settings chose."""

    def __init__(self) -> None:
        self._extractive = ExtractiveGenerator()
        self._generator: Generator = self._extractive
        self._cross_encoder: CrossEncoderModel | None = None
        self._pipelines = KnownPipelines()
        self._techniques = KnownTechniques(Techniques(), Services())
        self._responses = ResponseCache(ResponseSettings())

    def load(self, settings: Mapping[str, Any], techniques: Techniques) -> None:
        """Extract answers, or have them written where ``settings["llm_base_url"]`` is set.

        Raises:
            RpcError: 4001, an endpoint without ``llm_model``; 4002, the library ``openai`` is not installed.
        """
        self._responses = ResponseCache(ResponseSettings.of(settings))
        self._set_generator(settings)
        complete = Completing(self._generator).complete if self._generator is not self._extractive else None
        if settings.get("cross_encoder"):
            self._cross_encoder = CrossEncoderModel(settings["cross_encoder"])
        scores = None if self._cross_encoder is None else self._cross_encoder.scores
        self._techniques = KnownTechniques(techniques, Services(complete, scores))
        self._techniques.load_installed()

    def _set_generator(self, settings: Mapping[str, Any]) -> None:
        endpoints = endpoints_of(settings)
        if not endpoints:
            return
        spending = Spending(Path(settings.get("data_dir") or "."), settings.get("llm_budget") or 0.0)
        try:
            self._generator = OpenAIGenerator(endpoints, spending)
        except ModuleNotFoundError as error:
            raise RpcError(
                ErrorCode.MISSING_DEPENDENCIES, "TRUNKLINE_LLM_* needs openai: pip install 'trunkline[ml]'"
            ) from error

    def cache_names(self) -> list[str]:
        """The caches that :meth:`clear_cache` knows."""
        return ["responses", "pipelines"]

    def clear_cache(self, cache_type: str) -> dict[str, Cleared]:
        """Forget answers (``responses``) or parsed pipelines (``pipelines``), or both (``all``)."""
        clear = {"responses": self._responses.clear, "pipelines": self._pipelines.clear}
        return {name: function() for name, function in clear.items() if cache_type in (name, "all")}

    async def close(self) -> None:
        """Close the connections to the language model's endpoint, and the thread of the cross-encoder."""
        if self._cross_encoder is not None:
            self._cross_encoder.close()
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
        checked(technique, config or {}, self._techniques)
        return {"technique": technique, "config": config or {}}

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
        language: LanguageTag | None = None,
    ) -> Answer:
        """Answer a question from a collection, with the passages it came from.

        The technique is ``basic`` where none is given. ``language`` is that of question and answer (ISO 639-1, such
        as ``hr``); without it, it is that of the question, as far as that can be told. With a pipeline the
        technique is that of the pipeline, as are the options and params that the call does not give. Where the
        technique fails, ``fallback`` is tried in the time that is left.

        Raises:
            RpcError: 3001, unknown technique or pipeline; -32602, unknown or wrong options; 4001, no such collection,
                or one of another model; 3003, 1002 or 5001, the language model failed.
        """
        given = Asked(technique, in_language(options, language), technique_params, fallback)
        asked = await self._asked(ctx, given, pipeline_id)
        answering = Answering(asked, lambda each: self._begin(query, ctx, each), self._params_of)
        async with aclosing(answering.chunks(streams=False)) as source:
            async for _ in source:
                pass
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
        language: LanguageTag | None = None,
    ) -> AsyncIterator[AnswerChunk]:
        """Answer a question, streaming documents and parts of the answer; the result is that of ``rag.execute``.

        Chunks, by type: one ``metadata``; a ``document`` for each that was retrieved; then ``partial_answer``, whose
        texts, joined, are the answer.

        Raises:
            RpcError: as ``rag.execute``.
        """
        given = Asked(technique, in_language(options, language), technique_params, fallback)
        asked = await self._asked(ctx, given, pipeline_id)
        answering = Answering(asked, lambda each: self._begin(query, ctx, each), self._params_of)
        async with aclosing(answering.chunks(streams=True)) as source:
            async for chunk in source:
                yield cast("AnswerChunk", chunk)
        ctx.set_result(answering.run.result(ctx.worker_id))

    @method(
        "rag.retrieve",
        idempotent=True,
        timeout_ms=120_000,
        max_timeout_ms=600_000,
        runs_as="method",
        technique="technique",
        errors=ERRORS,
    )
    async def retrieve(
        self,
        query: Query,
        ctx: Context,
        technique: GivenTechnique | None = None,
        options: RagOptions | None = None,
        technique_params: GivenParams | None = None,
        pipeline_id: str | None = None,
    ) -> Retrieved:
        """Retrieve the passages for a question by a technique, without an answer.

        Raises:
            RpcError: as ``rag.execute``.
        """
        asked = await self._asked(ctx, Asked(technique, options, technique_params), pipeline_id)
        run, _ = self._run(query, ctx, asked)
        await retrieve(run, ctx)
        return cast("Retrieved", run.retrieved(ctx.worker_id))

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
            raise RpcError(error.code, f"{ctx.method}: {error.message}", maybe_executed=False) from None
        pipeline = self._pipelines.parsed(found, self._techniques)
        if given.technique not in (None, pipeline.technique):
            words = f"technique: pipeline {pipeline_id!r:.80} is one of {pipeline.technique}; leave technique out"
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{ctx.method}: {words}")
        return given.over(pipeline)

    def _begin(self, query: str, ctx: Context, asked: Asked) -> tuple[RagRun, AsyncGenerator[Chunk, None]]:
        """Check what depends on the technique, and start.

        Raises:
            RpcError: 3001 or -32602.
        """
        run, generator = self._run(query, ctx, asked)
        chunks = answered(run, generator, ctx)
        return run, self._responses.through(run, chunks, ctx) if self._responses.wanted(run) else chunks

    def _run(self, query: str, ctx: Context, asked: Asked) -> tuple[RagRun, Generator]:
        """A question on its way, and what will answer it.

        Raises:
            RpcError: 3001, 4001 or -32602.
        """
        technique = asked.technique or "basic"
        if (problem := self._techniques.problem(technique)) is not None:
            raise RpcError(problem.code, f"{ctx.method}: {problem.message}", maybe_executed=False)
        plan, model = self._techniques[technique]
        generator = self._extractive if technique == "extractive" else self._generator
        try:
            params = model.model_validate(asked.technique_params or {})
        except ValidationError as error:
            path, words = problems_of(error, "technique_params")[0]
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{ctx.method}: {path}: {words}") from None
        services = self._techniques.services
        return RagRun(plan, query, asked.options or RagOptions(), params, generator.name, services), generator

    def _params_of(self, technique: str) -> type[BasicParams]:
        """The params of a technique; of one that there is not, those of ``basic``."""
        return self._techniques[technique if technique in self._techniques else "basic"][1]
