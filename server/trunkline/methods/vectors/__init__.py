"""Collections of vectors on FAISS. One executor owns a collection: all its calls run there, by routing key.

What was acknowledged is on disk. Exact search over normalised vectors; scores are cosines.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trunkline.methods.context import Context
from trunkline.methods.registry import method
from trunkline.methods.vectors.collection import (
    Collection,
    Description,
    create_folder,
    folder_of,
    read_description,
)
from trunkline.methods.vectors.log import Item
from trunkline_protocol.errors import ErrorCode, RpcError

EMBED_BATCH: Final = 64

Vector = list[float]


class NewItem(BaseModel):
    """What ``vectors.upsert`` stores: a text, which is embedded, or a vector, or both."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=512)]
    text: Annotated[str, Field(min_length=1, max_length=200_000)] | None = None
    vector: Vector | None = None
    metadata: dict[str, Any] = {}


class Vectors:
    """The collections this executor owns."""

    def __init__(self) -> None:
        self._root = Path()
        self._open: dict[str, Collection] = {}

    def load(self, settings: Mapping[str, Any]) -> None:
        """Find the data folder; collections are opened when they are first asked for."""
        self._root = Path(settings["data_dir"]) / "collections"
        self._root.mkdir(parents=True, exist_ok=True)

    @method("collections.create", routing_key="name")
    async def create(
        self,
        name: str,
        ctx: Context,
        dimension: Annotated[int, Field(ge=1, le=65_536)] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Create a collection. With ``dimension`` it takes vectors of any origin; without, the model's."""
        model = None
        if dimension is None:
            dimension, model = await _model_of(ctx)
        created_at = datetime.now(UTC).isoformat()
        description = Description(name, dimension, model, metadata or {}, created_at)
        return await ctx.run_in_thread(self._create, description)  # type: ignore[no-any-return]

    def _create(self, description: Description) -> dict[str, Any]:
        folder = folder_of(self._root, description.name)
        existing = read_description(folder)
        if existing is None:
            create_folder(folder, description)
            return {"name": description.name, "created": True} | _described(description)
        if (existing.dimension, existing.model) != (description.dimension, description.model):
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"collection {description.name} exists with dimension {existing.dimension} and model {existing.model}; "
                "choose another name, or collections.delete it",
            )
        return {"name": description.name, "created": False} | _described(existing)

    @method("collections.list", idempotent=True)
    def list_all(self) -> dict[str, Any]:
        """All collections of this hub."""
        found = (read_description(folder) for folder in sorted(self._root.iterdir()) if folder.is_dir())
        return {"collections": [_described(description) for description in found if description is not None]}

    @method("collections.stats", idempotent=True, routing_key="name")
    def stats(self, name: str) -> dict[str, Any]:
        """Size and description of one collection."""
        collection = self._collection(name)
        return _described(collection.description) | {"count": len(collection), "log_bytes": collection.log_bytes}

    @method("collections.delete", routing_key="name")
    def delete(self, name: str) -> dict[str, Any]:
        """Delete a collection and everything in it."""
        self._collection(name).delete()
        del self._open[name]
        return {"name": name, "deleted": True}

    @method("vectors.upsert", idempotent=True, routing_key="collection")
    async def upsert(
        self, collection: str, items: Annotated[list[NewItem], Field(min_length=1, max_length=10_000)], ctx: Context
    ) -> dict[str, Any]:
        """Store items, replacing those with the same id. Acknowledged when they are on disk."""
        description: Description = await ctx.run_in_thread(self._describe, collection)
        texts = [_text_to_embed(item) for item in items if item.vector is None]
        embedded = iter(await _embed(ctx, texts, description)) if texts else iter(())
        records = []
        for index, item in enumerate(items):
            row = (
                next(embedded)
                if item.vector is None
                else unit_vector(item.vector, description.dimension, f"items.{index}.vector")
            )
            records.append(Item(item.id, row.astype("<f4").tobytes(), item.text, item.metadata))
        await ctx.run_in_thread(self._upsert, collection, records)
        return {"upserted": len(items)}

    def _upsert(self, name: str, records: Sequence[Item]) -> None:
        self._collection(name).upsert(records)

    @method("vectors.missing", idempotent=True, routing_key="collection")
    def missing(self, collection: str, ids: Annotated[list[str], Field(max_length=100_000)]) -> dict[str, Any]:
        """Which of the ids are not stored yet."""
        return {"ids": self._collection(collection).missing(ids)}

    @method("vectors.search", idempotent=True, routing_key="collection")
    async def search(
        self,
        collection: str,
        ctx: Context,
        text: Annotated[str, Field(min_length=1)] | None = None,
        vector: Vector | None = None,
        top_k: Annotated[int, Field(ge=1, le=1000)] = 5,
    ) -> dict[str, Any]:
        """The nearest items: ``{matches: [{id, score, text?, metadata}]}``, best first, score = cosine."""
        if (text is None) == (vector is None):
            raise RpcError(ErrorCode.INVALID_PARAMS, "vectors.search: give either text or vector")
        description: Description = await ctx.run_in_thread(self._describe, collection)
        if vector is not None:
            query = unit_vector(vector, description.dimension, "vector")
        else:
            assert text is not None
            query = (await _embed(ctx, [text], description))[0]
        return await ctx.run_in_thread(self._search, collection, query, top_k)  # type: ignore[no-any-return]

    def _search(self, name: str, query: NDArray[np.float32], top_k: int) -> dict[str, Any]:
        return {"matches": [_match(item, score) for item, score in self._collection(name).search(query, top_k)]}

    def _describe(self, name: str) -> Description:
        return self._collection(name).description

    def _collection(self, name: str) -> Collection:
        """The open collection; opened now if it was not. On the executor's thread only."""
        collection = self._open.get(name)
        if collection is None:
            folder = folder_of(self._root, name)
            description = read_description(folder)
            if description is None:
                raise RpcError(
                    ErrorCode.INVALID_CONFIGURATION, f"no collection {name!r}; make it with collections.create"
                )
            collection = self._open[name] = Collection(folder, description)
        return collection


def unit_vector(values: Sequence[float], dimension: int, where: str) -> NDArray[np.float32]:
    """A caller's vector, checked and scaled to length 1.

    Raises:
        RpcError: 4001 for another dimension, -32602 for one that is not finite or has no direction.
    """
    if len(values) != dimension:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION, f"{where} has dimension {len(values)}, the collection has {dimension}"
        )
    vector = np.asarray(values, dtype=np.float64)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0.0:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{where} must be finite and not zero")
    return (vector / length).astype(np.float32)


async def _embed(ctx: Context, texts: Sequence[str], description: Description) -> list[NDArray[np.float32]]:
    """Embed texts with the collection's model, wherever in the pool there is room."""
    if description.model is None:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {description.name} was created with a dimension and has no model: give vectors, not texts",
        )
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), EMBED_BATCH):
        params = {"input": list(texts[start : start + EMBED_BATCH]), "encoding_format": "base64"}
        answer = await ctx.call("embeddings.create", params)
        if answer["model"] != description.model:
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"collection {description.name} was made with {description.model}, "
                f"this hub embeds with {answer['model']}",
            )
        rows.extend(np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4") for entry in answer["data"])
    return rows


async def _model_of(ctx: Context) -> tuple[int, str]:
    """Dimension and name of the model the pool embeds with."""
    answer = await ctx.call("embeddings.create", {"input": "dimension"})
    return len(answer["data"][0]["embedding"]), answer["model"]


def _text_to_embed(item: NewItem) -> str:
    if item.text is None:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"vectors.upsert: item {item.id!r:.80} has neither text nor vector")
    return item.text


def _described(description: Description) -> dict[str, Any]:
    return {
        "name": description.name,
        "dimension": description.dimension,
        "model": description.model,
        "metadata": description.metadata,
        "created_at": description.created_at,
        "format_version": description.format_version,
    }


def _match(item: Item, score: float) -> dict[str, Any]:
    match: dict[str, Any] = {"id": item.id, "score": round(score, 6), "metadata": item.metadata}
    if item.text is not None:
        match["text"] = item.text
    return match
