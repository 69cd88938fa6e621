"""The pack ``documents``: from texts, files and folders to passages in a collection that can be cited.

A document is read into blocks of text, split by the tokens of the embedding model, and put into a collection passage by
passage, each with its source, title and place. What is in already is not embedded again; a document that changed
replaces its older version once it is in as a whole. Run again after any interruption, it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from trunkline import Context, ErrorCode, RpcError, method
from trunkline.defaults import DEFAULT_MODEL, DOCUMENT_MEGABYTES, DOCUMENT_SECONDS
from trunkline.methods.documents.filling import Filling, Fillings
from trunkline.methods.documents.folders import Roots
from trunkline.methods.documents.listing import (
    MAX_PAGE,
    DocumentDescription,
    DocumentPage,
    describe_document,
    list_documents,
)
from trunkline.methods.documents.plan import MAX_SOURCE, first_id
from trunkline.methods.documents.process import Processed, ProcessRun
from trunkline.methods.documents.reading import Reader
from trunkline.methods.documents.sources import Source, Text, pending
from trunkline.methods.documents.tokens import MIN_TOKENS

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
        self._documents_root: str | None = None
        self._fillings = Fillings(None)
        self._reader = Reader(DEFAULT_MODEL, DOCUMENT_SECONDS, DOCUMENT_MEGABYTES)

    def load(self, settings: Mapping[str, Any]) -> None:
        """Take ``model``, ``data_dir`` and what begins with ``document`` of the settings."""
        self._documents_root = settings.get("documents_root")
        data = settings.get("data_dir")
        self._fillings = Fillings(Path(data) / "documents" if data else None)
        self._reader = Reader(
            settings.get("model") or DEFAULT_MODEL,
            settings.get("document_seconds") or DOCUMENT_SECONDS,
            settings.get("document_megabytes") or DOCUMENT_MEGABYTES,
        )

    def close(self) -> None:
        """End what reads documents, without waiting for it."""
        self._reader.close()

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
        reading = await self._reader.reading(wanted.chunk_tokens, wanted.overlap_tokens)
        roots = Roots(self._documents_root, ctx.principal.tenant)
        documents = await reading.in_thread(pending, sources, roots, ignored)
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
        with self._fillings.begun(ctx.principal.tenant, collection) as filling:
            run = ProcessRun(ctx, collection, documents, roots, reading, model, filling)
            await run.work()
        return run.result(len(ignored))

    @method("documents.filling", idempotent=True, runs_as="method")
    async def filling(self, collection: Name, ctx: Context) -> Filling:
        """Tell how far the calls and jobs are that process documents into a collection now; all 0 where none does.

        Raises:
            RpcError: 4001, there is no such collection; 6002, the caller may not use it.
        """
        await ctx.call("collections.stats", {"name": collection})
        return self._fillings.of(ctx.principal.tenant, collection)

    @method("documents.list", idempotent=True, runs_as="method")
    async def list(
        self,
        collection: Name,
        ctx: Context,
        prefix: Annotated[str, Field(max_length=MAX_SOURCE)] = "",
        limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100,
        cursor: Annotated[str, Field(max_length=MAX_SOURCE)] = "",
    ) -> DocumentPage:
        """List the documents of a collection in order of their names (by code point), a page at a time.

        Args:
            prefix: of the names.
            cursor: of the page before; documents behind it are listed.

        Raises:
            RpcError: 4001, there is no such collection.
        """
        return await list_documents(ctx, collection, prefix, limit, cursor)

    @method("documents.get", idempotent=True, runs_as="method")
    async def get(self, collection: Name, source: Text, ctx: Context) -> DocumentDescription:
        """Describe a document: its title, version, passages, size, note, and when it was put in.

        Raises:
            RpcError: 4001, there is no such collection; -32602, no such document in it.
        """
        return await describe_document(ctx, collection, source)

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
