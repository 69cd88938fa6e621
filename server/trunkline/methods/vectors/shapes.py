"""The params and results of ``collections.*`` and ``vectors.*``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NotRequired, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.index import IndexSpec, Kind, Match, Metric
from trunkline.methods.vectors.manifest import Manifest
from trunkline.methods.vectors.numbers import as_base64
from trunkline_protocol.principals import DEFAULT_TENANT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ITEMS: Final = 4096
"""Items of one upsert. A message of 16 MiB has room for so many with vectors of 768 numbers in base64."""
MAX_DIMENSION: Final = 16_384
MAX_METADATA: Final = 64 * 1024
"""Bytes of one item's metadata, as JSON."""

NAME: Final = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
Id = Annotated[str, Field(min_length=1, max_length=512)]
Ids = Annotated[list[Id], Field(max_length=MAX_ITEMS)]
Vector = Annotated[list[float] | str, Field(union_mode="left_to_right")]
"""Numbers, or base64 of little-endian float32, which is smaller and faster."""
Dimension = Annotated[int, Field(ge=1, le=MAX_DIMENSION)]
TopK = Annotated[int, Field(ge=1, le=1000)]
Metadata = dict[str, Any]
Filter = dict[str, Any]
"""See :mod:`trunkline.methods.vectors.filters`."""


class UpsertItem(BaseModel):
    """An item: a vector, or a text that is embedded; with both, the vector counts and the text is kept beside it."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    vector: Vector | None = None
    text: Annotated[str, Field(min_length=1)] | None = None
    metadata: Metadata = {}


class UpsertPage(BaseModel):
    """Several items, as ``collections.export`` gives them."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[list[UpsertItem], Field(max_length=MAX_ITEMS)]


class IndexOptions(BaseModel):
    """The index of a collection: its kind, and the parameters of that kind (``structures.PARAMS``)."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    m: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    lists: int | None = None
    probes: int | None = None

    def spec(self, dimension: int, metric: Metric) -> IndexSpec:
        """The spec of an index with these options, for vectors of a dimension and metric.

        Raises:
            RpcError: -32602, a parameter that the kind does not have, or beyond its bounds.
        """
        params = self.model_dump(exclude_none=True, exclude={"kind"})
        return IndexSpec(dimension=dimension, metric=metric, kind=self.kind, params=params)


class IndexDescription(TypedDict):
    """The kind of an index, and what was set of it."""

    kind: Kind
    m: NotRequired[int]
    ef_construction: NotRequired[int]
    ef_search: NotRequired[int]
    lists: NotRequired[int]
    probes: NotRequired[int]


class CollectionDescription(TypedDict):
    """The description of a collection.

    ``model`` is what embedded its texts; null as long as all its vectors came from callers. ``tenant`` is whose it is,
    where that is not ``default``.
    """

    name: str
    tenant: NotRequired[str]
    dimension: int
    model: str | None
    metadata: Metadata
    metric: Metric
    index: IndexDescription
    format_version: int


class CreatedCollection(CollectionDescription):
    """A collection; ``created`` is false where it existed already with these options."""

    created: bool


class UnreadableCollection(TypedDict):
    """A collection that exists and cannot be read, and why."""

    name: str
    error: str


class CollectionList(TypedDict):
    """All collections, by name."""

    collections: list[CollectionDescription | UnreadableCollection]


class CollectionStats(CollectionDescription):
    """The description of a collection, and its size.

    ``count`` items; ``bytes`` on the disk; ``tombstones`` are rows of the index that are deleted or replaced and not
    yet gone; ``position`` counts what was ever committed; ``version`` is another one after each change, and whenever
    the collection is opened anew. ``search`` is exact where every vector is compared: always
    with kind flat, with others as long as the structure is too small or not built yet. ``building``: it is being built.
    """

    count: int
    bytes: int
    tombstones: int
    position: int
    version: str
    search: Literal["exact", "approximate"]
    building: bool


class FoundItem(TypedDict):
    """A match. ``text`` is there where the item has one.

    ``score``, higher is nearer: the cosine, -1 to 1; the inner product; or minus the Euclidean distance.
    """

    id: str
    score: float
    text: NotRequired[str]
    metadata: Metadata


class Matches(TypedDict):
    """The items that were found, best first."""

    matches: list[FoundItem]


class StoredItem(TypedDict):
    """An item as it is kept. ``vector`` is base64 of little-endian float32, of length 1 where the metric is cosine."""

    id: str
    text: NotRequired[str]
    metadata: Metadata
    vector: NotRequired[str]


class StoredItems(TypedDict):
    """Items in the order of the ids; null for an id that is not there."""

    items: list[StoredItem | None]


class StoredPage(TypedDict):
    """A page of the items of a collection."""

    items: list[StoredItem]


class MissingItems(TypedDict):
    """The ids that are not in a collection, in the order they were given."""

    ids: Sequence[str]


class Exported(TypedDict):
    """The number of items that were exported."""

    exported: int


class Imported(TypedDict):
    """The number of items that were imported."""

    imported: int


class DeletedCollection(TypedDict):
    """A collection that is gone."""

    name: str
    deleted: Literal[True]


class Deleted(TypedDict):
    """The number of items that were deleted."""

    deleted: int


def description(manifest: Manifest, tenant: str) -> CollectionDescription:
    """The description of a tenant's collection, from its manifest."""
    described: CollectionDescription = {
        "name": manifest.name,
        "dimension": manifest.dimension,
        "model": manifest.model,
        "metadata": manifest.metadata,
        "metric": manifest.metric,
        "index": cast("IndexDescription", manifest.index),
        "format_version": manifest.format_version,
    }
    if tenant != DEFAULT_TENANT:
        described["tenant"] = tenant
    return described


def found_item(match: Match) -> FoundItem:
    """A match as callers get it."""
    item = match.item
    found: FoundItem = {"id": item.id, "score": match.score, "metadata": item.metadata}
    if item.text is not None:
        found["text"] = item.text
    return found


def stored_item(item: Item, vector: NDArray[np.float32] | None) -> StoredItem:
    """An item as callers get it."""
    stored: StoredItem = {"id": item.id, "metadata": item.metadata}
    if item.text is not None:
        stored["text"] = item.text
    if vector is not None:
        stored["vector"] = as_base64(vector)
    return stored


def check_metadata(metadata: Metadata, where: str) -> None:
    """Check that metadata can be kept as JSON, and are not too large.

    Raises:
        RpcError: -32602, they cannot be kept, or are too large.
    """
    if not metadata:
        return
    try:
        size = len(orjson.dumps(metadata, option=orjson.OPT_STRICT_INTEGER))
    except TypeError as error:  # integers beyond 2**53, which JSON's readers would change; too deep; no Unicode
        raise RpcError(ErrorCode.INVALID_PARAMS, f"{where} cannot be kept as it is: {error}") from error
    if size > MAX_METADATA:
        raise RpcError(
            ErrorCode.INVALID_PARAMS, f"{where} has {size:,} bytes as JSON; at most {MAX_METADATA:,} are kept"
        )
