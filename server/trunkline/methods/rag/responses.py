"""The cache of answers, of calls that ask for it: valid for one version of the collection.

The version is asked for with the rights of each call, before anything is looked up: who may not read the collection is
refused, and a collection that was changed, deleted or made anew has another version.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from trunkline import Chunk, Context
from trunkline.defaults import RESPONSE_CACHE_SECONDS
from trunkline.methods.caching import Cleared, ResultCache
from trunkline.methods.rag.retrieval import Document, RagRun

ENTRY_BYTES: Final = 512
"""What an entry takes beside its JSON: key, entry, objects."""


OF_THE_CALL: Final = (
    "cache", "fallback", "rewritten_query", "rewritten_by", "conversation_id", "turn", "answer_id",
)  # fmt: skip
"""Details that say how this call was answered, not what the answer is."""


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """The settings ``response_cache_*``; without bytes nothing is kept, whatever calls ask for."""

    bytes: int = 0
    seconds: float = RESPONSE_CACHE_SECONDS
    techniques: Collection[str] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ResponseSettings:
        """The settings that a pack was loaded with."""
        default = cls()
        return cls(
            settings.get("response_cache_bytes") or default.bytes,
            settings.get("response_cache_seconds") or default.seconds,
            settings.get("response_cache_techniques") or default.techniques,
        )


class ResponseCache:
    """Answers by technique, query, options, params, generator, and version of the collection."""

    def __init__(self, settings: ResponseSettings) -> None:
        self._settings = settings
        self._kept: ResultCache[bytes, bytes] = ResultCache(
            "responses", lambda entry: len(entry) + ENTRY_BYTES, settings.bytes, settings.seconds
        )

    def clear(self) -> Cleared:
        """Forget all answers."""
        return self._kept.clear()

    def wanted(self, run: RagRun) -> bool:
        """Whether a call, or else the settings for its technique, ask for the cache, and there is one."""
        asked = run.options.cache
        return self._settings.bytes > 0 and (run.technique in self._settings.techniques if asked is None else asked)

    async def through(
        self, run: RagRun, chunks: AsyncGenerator[Chunk, None], ctx: Context
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of a kept answer, or those of the technique, which are kept for the next call.

        Answers of a collection that is being filled are not kept. ``metadata.cache`` of the result is ``hit`` or
        ``miss``.
        """
        run.stats = await ctx.call("collections.stats", {"name": run.options.collection})
        key = key_of(run, run.stats["version"], ctx.principal.tenant)
        entry = self._kept.get(key)
        if entry is not None:
            for chunk in _replayed(run, orjson.loads(entry), ctx.worker_id):
                yield chunk
            return
        run.details["cache"] = "miss"
        said: list[Chunk] = []
        async with aclosing(chunks) as source:
            async for chunk in source:
                said.append(chunk)
                yield chunk
        if run.filling is None:
            self._kept.put(key, _entry(run, said))


def key_of(run: RagRun, version: str, tenant: str) -> bytes:
    """The key of an answer. Tenants share none, whatever version their collections have."""
    options = run.options.model_dump(exclude={"cache"})
    what = [run.technique, run.query, options, run.params.model_dump(), run.generator, version, tenant]
    return hashlib.blake2b(orjson.dumps(what, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _entry(run: RagRun, said: list[Chunk]) -> bytes:
    details = {name: value for name, value in run.details.items() if name not in OF_THE_CALL}
    details["cached_at"] = datetime.now(UTC).isoformat()
    state = {"model": run.model, "found": run.found, "generator": run.generator, "details": details}
    return orjson.dumps(state | {"chunks": [[chunk.type, chunk.data] for chunk in said]})


def _replayed(run: RagRun, entry: dict[str, Any], worker_id: str) -> list[Chunk]:
    """The chunks of a kept answer; the run gets all that its result is made of."""
    run.model, run.found, run.generator = entry["model"], entry["found"], entry["generator"]
    run.details.update(entry["details"], cache="hit", usage={"prompt_tokens": 0, "completion_tokens": 0})
    chunks = []
    for kind, data in entry["chunks"]:
        if kind == "metadata":
            data |= {"query": run.question, "worker_id": worker_id, "retrieval_time_ms": 0.0, "cache": "hit"}
        elif kind == "document":
            run.documents.append(Document(**data))
        else:
            run.answer.append(data["text"])
        chunks.append(Chunk(kind, data))
    return chunks
