"""Finding items by the words of their texts, and by words and meaning together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from trunkline import Context, ErrorCode, RpcError, method
from trunkline.background import start_task
from trunkline.methods.vectors import collection_methods
from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.collection import Collection
from trunkline.methods.vectors.filters import compile_filter
from trunkline.methods.vectors.fusion import Candidate, Fusion, fuse
from trunkline.methods.vectors.index import Match
from trunkline.methods.vectors.lexical import LexicalIndex, Scores
from trunkline.methods.vectors.lexicon import Lexicon
from trunkline.methods.vectors.query import query_vector
from trunkline.methods.vectors.shapes import Filter, FoundItem, Matches, Metadata, Name, TopK, Vector, found_item

CANDIDATES: Final = 100
"""Of each search, so many are fused, or as many as are asked for."""

Text = Annotated[str, Field(min_length=1, max_length=20_000)]


class FusedItem(TypedDict):
    """A match of both searches: ``score`` is the fused one; ``lexical`` is 0 where the text has none of the words."""

    id: str
    score: float
    dense: float
    lexical: float
    text: NotRequired[str]
    metadata: Metadata


class FusedMatches(TypedDict):
    """Matches of both searches, best first."""

    matches: list[FusedItem]


class LexicalMethods(collection_methods.CollectionMethods):
    """The methods ``vectors.lexical`` and ``vectors.hybrid``."""

    def __init__(self) -> None:
        super().__init__()
        self._making: dict[Collection, asyncio.Task[None]] = {}

    @method("vectors.lexical", idempotent=True, routing_key="collection", timeout_ms=120_000)
    async def lexical(
        self, collection: Name, text: Text, ctx: Context, top_k: TopK = 5, filter: Filter | None = None
    ) -> Matches:
        """Find items by the words of a text (BM25, stems of the collection's language), best first.

        The first search of a collection makes an index of its words, which takes a second for some 10,000 texts.

        Raises:
            RpcError: -32602, an invalid filter; 4001, no such collection; 4002, bm25s is not installed.
        """
        matches = compile_filter(filter, "vectors.lexical: filter") if filter else None
        owned = await self.owner.get(collection, ctx)
        lexicon = await self._lexicon(owned, ctx)

        def find() -> list[FoundItem]:
            found = _scores(lexicon, text).top(top_k, _by_id(owned, matches))
            items = [(owned.index.item(each), score) for each, score in found]
            return [found_item(Match(item, score)) for item, score in items if item is not None]

        return {"matches": await self.owner.run(owned, ctx, find)}

    @method("vectors.hybrid", idempotent=True, routing_key="collection", timeout_ms=120_000, runs_as="method")
    async def hybrid(
        self,
        collection: Name,
        text: Text,
        ctx: Context,
        vector: Vector | None = None,
        top_k: TopK = 5,
        model: str | None = None,
        filter: Filter | None = None,
        fusion: Fusion = "convex",
        weight: Annotated[float, Field(ge=0, le=100)] | None = None,
    ) -> FusedMatches:
        """Find items by meaning and by words of a text: embedding and BM25 scores are fused; best first.

        Args:
            vector: that of the text, where the caller has it; ``model``: what made it.
            fusion: ``convex`` adds a share of the lexical score to the cosine; ``rrf`` is reciprocal rank fusion.
            weight: of the lexical part; by default what was best in measurements.

        Raises:
            RpcError: -32602, an invalid filter, or ``convex`` with another metric than cosine; 4001, no such
                collection, or another model; 4002, bm25s is not installed.
        """
        matches = compile_filter(filter, "vectors.hybrid: filter") if filter else None
        owned = await self.owner.get(collection, ctx)
        if fusion == "convex" and owned.manifest.metric != "cosine":
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                f"vectors.hybrid: fusion: convex adds to a cosine, and collection {collection!r} has metric "
                f"{owned.manifest.metric}: use rrf",
            )
        lexicon = await self._lexicon(owned, ctx)
        query = await query_vector(owned.manifest, text, vector, model, ctx)
        count = max(CANDIDATES, top_k)

        def find() -> list[FusedItem]:
            index = owned.index
            scores = _scores(lexicon, text)
            dense = {match.item.id: match.score for match in index.search(query, count, None, matches)}
            others = [each for each, _ in scores.top(count, _by_id(owned, matches)) if each not in dense]
            dense.update(zip(others, index.scores(query, others), strict=True))
            candidates = [Candidate(each, score, scores.of(each)) for each, score in dense.items()]
            fused = fuse(candidates, fusion, weight)[:top_k]
            return [_fused_item(owned, candidate, score) for candidate, score in fused]

        return {"matches": await self.owner.run(owned, ctx, find)}

    async def _lexicon(self, collection: Collection, ctx: Context) -> Lexicon:
        """The words of a collection: made now, if they never were; made anew beside, if much has changed."""
        making = self._making.get(collection)
        if making is None and (collection.lexicon is None or collection.lexicon.due):
            making = self._making[collection] = start_task(self._make(collection, ctx), "words", expected=RpcError)
            making.add_done_callback(lambda _: self._making.pop(collection, None))
        if making is not None and (collection.lexicon is None or collection.lexicon.index is None):
            await asyncio.shield(making)
        collection.check_open()
        assert collection.lexicon is not None
        return collection.lexicon

    async def _make(self, collection: Collection, ctx: Context) -> None:
        def begin() -> tuple[dict[str, str], int]:
            lexicon = collection.lexicon = collection.lexicon or Lexicon()
            lexicon.begin()
            texts = {item.id: item.text for item in collection.index.items() if item.text is not None}
            return texts, collection.words.position

        texts, position = await self.owner.run(collection, ctx, begin)
        assert collection.lexicon is not None
        index = restored = None
        try:
            if collection.lexicon.index is None:
                index = restored = await asyncio.to_thread(collection.words.restored, texts)
            if index is None:
                index = await asyncio.to_thread(LexicalIndex, texts)
        except ModuleNotFoundError as error:
            raise RpcError(
                ErrorCode.MISSING_DEPENDENCIES, f"{ctx.method} needs {error.name}: pip install 'trunkline[ml]'"
            ) from error
        finally:
            await ctx.run_in_thread(collection.lexicon.finish, index)
        if restored is None:  # what was counted does not change any more
            keep = partial(collection.words.keep, index.statistics, texts, position, lambda: not collection.closed)
            start_task(asyncio.to_thread(keep), "words file")


def _scores(lexicon: Lexicon, text: str) -> Scores:
    assert lexicon.index is not None
    return lexicon.index.search(text)


def _by_id(collection: Collection, matches: Callable[[Item], bool] | None) -> Callable[[str], bool] | None:
    if matches is None:
        return None

    def meets(id: str) -> bool:
        item = collection.index.item(id)
        return item is not None and matches(item)

    return meets


def _fused_item(collection: Collection, candidate: Candidate, score: float) -> FusedItem:
    item = collection.index.item(candidate.id)
    assert item is not None
    fused: FusedItem = {
        "id": item.id,
        "score": score,
        "dense": candidate.dense,
        "lexical": candidate.lexical,
        "metadata": item.metadata,
    }
    if item.text is not None:
        fused["text"] = item.text
    return fused
