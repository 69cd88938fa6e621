"""The pack ``documents``: from texts, files and folders to passages in a collection that can be cited.

A document is read (txt, md, html, pdf, docx) into blocks, split by the tokens of the embedding model, and put into a collection
passage by passage, each with its source, title and place. What is in already is not embedded again; a document that
changed replaces its older version once it is in as a whole. ProcessRun again after any interruption, it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from trunkline import Context, ErrorCode, RpcError, method
from trunkline.defaults import DEFAULT_MODEL, DOCUMENT_SECONDS
from trunkline.methods.documents.folders import Roots
from trunkline.methods.documents.plan import first_id
from trunkline.methods.documents.process import Processed, ProcessRun
from trunkline.methods.documents.reading_time import ReadingTime
from trunkline.methods.documents.sources import Source, Text, pending
from trunkline.methods.documents.split import Splitter
from trunkline.methods.documents.tokens import MIN_TOKENS, ModelTokens, load_tokens

DAY_MS: Final = 24 * 60 * 60 * 1000

Name = Annotated[str, Field(min_length=1, max_length=64)]


class SplitOptions(BaseModel):
    """How documents are split: by default into passages of 256 tokens, the model's marks included, or fewer where it
    reads fewer, that do not overlap."""

    model_config = ConfigDict(extra="forbid")

    chunk_tokens: Annotated[int, Field(ge=MIN_TOKENS)] | None = None
    overlap_tokens: Annotated[int, Field(ge=0)] = 0


class Job(TypedDict):
    """A job as ``jobs.create`` gives it. Times are milliseconds since 1970."""

    id: str
    method: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: Any
    error: dict[str, Any] | None
    last_error: dict[str, Any] | None
    attempts: int
    priority: Literal["low", "normal", "high"]
    principal: str
    tenant: NotRequired[str]
    created_at: int
    started_at: int | None
    finished_at: int | None


class StartedJob(TypedDict):
    """The job that was made, where ``async`` is true."""

    job: Job


class DeletedPassages(TypedDict):
    """How many passages of a document were deleted."""

    deleted: int


class DocumentMethods:
    """The methods ``documents.*``: files are read inside the documents roots, and split by the model's tokenizer."""

    def __init__(self) -> None:
        self._model = DEFAULT_MODEL
        self._documents_root: str | None = None
        self._tokens: ModelTokens | None = None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._time_limit = ReadingTime(DOCUMENT_SECONDS)

    def load(self, settings: Mapping[str, Any]) -> None:
        """Take ``settings["model"]``, ``settings["documents_root"]`` and ``settings["document_seconds"]``.

        What a document may end is the process where ``settings["is_executor"]`` says so, with a note in
        ``settings["data_dir"]``. Libraries are loaded when first used.
        """
        self._model = settings.get("model") or DEFAULT_MODEL
        self._documents_root = settings.get("documents_root")
        notes = Path(settings["data_dir"]) / "documents" if settings.get("is_executor") else None
        self._time_limit = ReadingTime(settings.get("document_seconds") or DOCUMENT_SECONDS, notes)

    def close(self) -> None:
        """Release the reader's thread, without waiting for what runs on it."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    @method("documents.process", idempotent=True, timeout_ms=600_000, max_timeout_ms=DAY_MS, runs_as="method")
    async def process(
        self,
        collection: Name,
        sources: Annotated[list[Source], Field(min_length=1)],
        ctx: Context,
        options: SplitOptions | None = None,
        create: bool = True,
        async_: bool = False,
    ) -> Processed | StartedJob:
        """Read documents, split them, and put their passages into a collection; unchanged passages are kept.

        A document that cannot be read does not stop the others: its entry has the error. Progress is reported as
        ``{stage, documents_done, documents_total, passages_done, passages_total, current}``.

        Args:
            create: create the collection, for the model's vectors, if there is none.
            async_: return at once, and run the work as a job.

        Raises:
            RpcError: -32602, an invalid source, or sizes the model does not read; 6002, a path outside; 4001,
                no such collection, or one of another model; whatever the collection ended with, and then what was
                put in so far stays.
        """
        wanted = options or SplitOptions()
        ignored: list[str] = []
        in_reader = partial(asyncio.get_running_loop().run_in_executor, self._reader)
        splitter, settings = await in_reader(self._splitter, wanted)
        roots = Roots(self._documents_root, ctx.principal.tenant)
        documents = await in_reader(pending, sources, roots, ignored)
        model = await _require_collection(ctx, collection, create)
        if async_:
            params = {
                "collection": collection,
                "sources": [source.model_dump(exclude_defaults=True) for source in sources],
                "options": wanted.model_dump(exclude_defaults=True),
                "create": False,  # it is there: one that is deleted meanwhile stays deleted
            }
            job = await ctx.call("jobs.create", {"method": "documents.process", "params": params} | _once(ctx))
            return {"job": job}
        run = ProcessRun(ctx, collection, documents, splitter, roots, self._reader, self._time_limit, settings, model)
        await run.work()
        return run.result(len(ignored))

    @method("documents.delete", idempotent=True, runs_as="method")
    async def delete(self, collection: Name, source: Text, ctx: Context) -> DeletedPassages:
        """Delete all passages of a document from a collection; ``deleted`` is their number, 0 for an unknown document.

        A version that is being processed is not put in any more.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        turn = (await ctx.call("vectors.claim", {"collection": collection}))["turn"]
        begun = {source: {"first": first_id(source), "turn": turn}}
        while True:
            claimed = await ctx.call("vectors.claim", {"collection": collection, "documents": begun})
            params = {
                "collection": collection, "items": [], "replaces": {"source": source},
                "claim": {"opening": claimed["opening"], "turns": {source: turn}},
            }  # fmt: skip
            try:
                return {"deleted": (await ctx.call("vectors.upsert", params))["deleted"]}
            except RpcError as error:
                if not error.data.get("claim_again"):
                    raise

    def _splitter(self, options: SplitOptions) -> tuple[Splitter, dict[str, Any]]:
        """Make a splitter, on the reader's thread: loading a tokenizer takes a while, once."""
        if self._tokens is None:
            self._tokens = load_tokens(self._model)
        tokens, overlap = self._tokens.sizes(options.chunk_tokens, options.overlap_tokens)
        return Splitter(self._tokens, tokens, overlap), {"chunk_tokens": tokens, "overlap_tokens": overlap}


async def _require_collection(ctx: Context, name: str, create: bool) -> str | None:
    """The model of the collection, which is made if need be; None where it has no texts yet."""
    try:
        found = await ctx.call("collections.stats", {"name": name})
    except RpcError as error:
        if error.code != ErrorCode.INVALID_CONFIGURATION or not create:
            raise
        found = await ctx.call("collections.create", {"name": name})
    model: str | None = found["model"]
    return model


def _once(ctx: Context) -> dict[str, str]:
    """The idempotency key of the job, so that a call which runs again makes no second one."""
    own = ctx.metadata.get("idempotency_key") or ctx.metadata.get("request_id")
    return {"idempotency_key": own} if isinstance(own, str) else {}
