"""The pack ``rag``: retrieval-augmented answers, whole (``rag.execute``) or while they are made (``rag.stream``).

It embeds and searches through the hub, so it runs on any executor, whoever owns the collection. Answers are written
by the model behind ``TRUNKLINE_LLM_BASE_URL`` where that is set, else extracted: made of the documents' own
sentences. The techniques are ``basic``, which retrieves by meaning, ``hybrid``, by meaning and words, and
``extractive``: ``basic`` with an extracted answer, whatever model is set.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Any, Final, cast

from pydantic import Field, ValidationError
from typing_extensions import TypedDict

from trunkline import Chunk, Context, ErrorCode, RpcError, method
from trunkline.methods.caching import Cleared
from trunkline.methods.rag.asked import Asked, KnownPipelines, checked, problems_of, unknown_technique
from trunkline.methods.rag.extractive import ExtractiveGenerator
from trunkline.methods.rag.fallback import Answering
from trunkline.methods.rag.generated import OpenAIGenerator
from trunkline.methods.rag.responses import ResponseCache, ResponseSettings
from trunkline.methods.rag.retrieval import BasicParams, Generator, HybridParams, Options, RagRun, basic

Query = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S")]
Technique = Callable[[RagRun, Generator, Context], AsyncGenerator[Chunk, None]]

TECHNIQUES: Final[dict[str, tuple[Technique, type[BasicParams]]]] = {
    "basic": (basic, BasicParams),
    "hybrid": (basic, HybridParams),
    "extractive": (basic, BasicParams),
}
"""Name -> the function that runs a technique, and the model of its ``technique_params``."""


def params_of(technique: str) -> type[BasicParams]:
    """The params of a technique; of one that there is not, those of ``basic``."""
    return TECHNIQUES.get(technique, TECHNIQUES["basic"])[1]


class Checked(TypedDict):
    """A technique and a config that go together."""

    technique: str
    config: dict[str, Any]


class Performance(TypedDict):
    """Durations in milliseconds. The total exceeds the sum by the time a slow reader took."""

    total_time_ms: float
    retrieval_time_ms: float
    generation_time_ms: float


class Answer(TypedDict):
    """An answer and where it comes from.

    ``success`` says that the technique ran; whether anything was found, ``metadata.found`` says. Failures are errors,
    not results. ``retrieved_documents`` are ``{rank, id, score, text, metadata}``, best first; a citation ``[n]`` in
    the answer is the one of rank n. ``metadata`` has ``worker_id``, ``timestamp`` (UTC, ISO 8601), ``generator``
    (``extractive``, or the name of the language model), ``collection``, ``embedding_model``, ``found``,
    ``filling`` ``{items, expected_items}`` where the collection is still being indexed, which the answer says, too,
    and ``finish_reason`` where a language model gave one.
    """

    success: bool
    technique: str
    query: str
    answer: str
    retrieved_documents: list[dict[str, Any]]
    performance: Performance
    metadata: dict[str, Any]


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

    @method("rag.check", idempotent=True, technique="technique")
    async def check(self, technique: str, config: dict[str, Any] | None = None) -> Checked:
        """Check a technique and its config, as pipeline.initialize does; nothing is run.

        Raises:
            RpcError: 4001, with all that is wrong in ``data.errors``, by path.
        """
        checked(technique, config or {}, TECHNIQUES)
        return {"technique": technique, "config": config or {}}

    @method(
        "rag.execute",
        idempotent=True,
        timeout_ms=120_000,
        max_timeout_ms=600_000,
        runs_as="method",
        technique="technique",
    )
    async def execute(
        self,
        query: Query,
        ctx: Context,
        technique: str | None = None,
        options: Options | None = None,
        technique_params: dict[str, Any] | None = None,
        pipeline_id: str | None = None,
        fallback: str | None = None,
    ) -> Answer:
        """Answer a question from a collection, with the passages it came from.

        The technique is ``basic`` where none is given. With a pipeline it is that of the pipeline, as are the options
        and params that the call does not give. Where the technique fails, ``fallback`` is tried in the time that is
        left.

        Raises:
            RpcError: 3001, unknown technique or pipeline; -32602, unknown or wrong options; 4001, no such collection,
                or one of another model; 3003, 1002 or 5001, the language model failed.
        """
        asked = await self._asked(ctx, Asked(technique, options, technique_params, fallback), pipeline_id)
        answering = Answering(asked, lambda each: self._begin(query, ctx, each), params_of)
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
    )
    async def stream(
        self,
        query: Query,
        ctx: Context,
        technique: str | None = None,
        options: Options | None = None,
        technique_params: dict[str, Any] | None = None,
        pipeline_id: str | None = None,
        fallback: str | None = None,
    ) -> AsyncIterator[Chunk]:
        """Answer a question, streaming documents and parts of the answer; the result is that of ``rag.execute``.

        Chunks, by type: one ``metadata``; a ``document`` ``{rank, id, score, text, metadata}`` for each that was
        retrieved; then ``partial_answer`` ``{text, source?}``, whose texts, joined, are the answer. ``source``
        (``{rank, id, score}``, or null where nothing was found) comes with extracted sentences.

        Raises:
            RpcError: as ``rag.execute``.
        """
        asked = await self._asked(ctx, Asked(technique, options, technique_params, fallback), pipeline_id)
        answering = Answering(asked, lambda each: self._begin(query, ctx, each), params_of)
        async with aclosing(answering.chunks(streams=True)) as source:
            async for chunk in source:
                yield chunk
        ctx.set_result(answering.run.result(ctx.worker_id))

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
        pipeline = self._pipelines.parsed(found, TECHNIQUES)
        if given.technique not in (None, pipeline.technique):
            words = f"technique: pipeline {pipeline_id!r:.80} is one of {pipeline.technique}; leave technique out"
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{ctx.method}: {words}")
        return given.over(pipeline)

    def _begin(self, query: str, ctx: Context, asked: Asked) -> tuple[RagRun, AsyncGenerator[Chunk, None]]:
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
        run = RagRun(technique, query, asked.options or Options(), params, generator.name)
        chunks = execute(run, generator, ctx)
        return run, self._responses.through(run, chunks, ctx) if self._responses.wanted(run) else chunks
