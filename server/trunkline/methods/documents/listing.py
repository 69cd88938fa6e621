"""What documents a collection has: a page of them in order of their names, or one with all that is known of it."""

from __future__ import annotations

from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from trunkline import Context, ErrorCode, RpcError
from trunkline.methods.documents.plan import ABOUT, first_id

MAX_PAGE: Final = 500
MOST_FOUND: Final = 1000
"""Items of one search. Where there are more, the names that are looked for are narrowed down."""
UNFINISHED: Final = "unfinished:"
"""What ``document`` begins with while a version is put in (:mod:`trunkline.methods.vectors.versions`)."""


class ListedDocument(TypedDict):
    """A document: how many ``passages`` it has; ``complete`` is false while a version of it is put in.

    ``file`` is where its caller had it, if that is known (``file`` of ``documents.process``).
    """

    source: str
    title: str | None
    passages: int
    complete: bool
    file: NotRequired[str]


class DocumentDescription(ListedDocument):
    """A document, and its ``version``; the ``bytes`` of its file, the ``note`` and the time of when it was put in.

    Of documents that were put in by earlier versions of the hub these are not known. Times are milliseconds since 1970.
    """

    version: str | None
    bytes: int | None
    note: NotRequired[str]
    processed_at: int | None


class DocumentPage(TypedDict):
    """Documents by name; ``cursor``, where there are more, continues behind them."""

    documents: list[ListedDocument]
    cursor: str | None


async def list_documents(ctx: Context, collection: str, prefix: str, limit: int, cursor: str) -> DocumentPage:
    """A page of documents whose names begin with ``prefix`` and come after ``cursor``.

    Raises:
        RpcError: 4001, there is no such collection.
    """
    stats = await ctx.call("collections.stats", {"name": collection})
    anywhere = [1.0] + [0.0] * (stats["dimension"] - 1)
    end: str | None = None
    while True:
        names: dict[str, Any] = {"$gt": cursor, "$gte": prefix} | ({"$lt": end} if end is not None else {})
        filter_ = {"part": 0, "document": {"$exists": True}, "source": names}
        params = {"collection": collection, "vector": anywhere, "top_k": MOST_FOUND, "filter": filter_}
        found = (await ctx.call("vectors.search", params))["matches"]
        listed = sorted(map(_listed, found), key=lambda document: document["source"])
        if len(found) < MOST_FOUND:
            break
        end = listed[MOST_FOUND // 2]["source"]
    page = [document for document in listed if document["source"].startswith(prefix)]
    # Names that begin with the prefix follow each other: one that does not is behind the last.
    is_last = end is None or len(page) < len(listed)
    more = len(page) > limit or not is_last
    page = page[:limit]
    return {"documents": page, "cursor": page[-1]["source"] if more and page else None}


def _listed(item: dict[str, Any]) -> ListedDocument:
    metadata = item["metadata"]
    listed: ListedDocument = {
        "source": metadata["source"],
        "title": metadata.get("title"),
        "passages": metadata.get("parts", 0),
        "complete": not str(metadata["document"]).startswith(UNFINISHED),
    }
    if "file" in (about := metadata.get(ABOUT, {})):
        listed["file"] = about["file"]
    return listed


async def describe_document(ctx: Context, collection: str, source: str) -> DocumentDescription:
    """All that is known of a document.

    Raises:
        RpcError: 4001, there is no such collection; -32602, no such document in it.
    """
    (first,) = (await ctx.call("vectors.get", {"collection": collection, "ids": [first_id(source)]}))["items"]
    if first is None or "document" not in first["metadata"]:
        raise RpcError(
            ErrorCode.INVALID_PARAMS, f"source: there is no document {source!r:.300} in collection {collection!r}"
        )
    listed, about = _listed(first), first["metadata"].get(ABOUT, {})
    described: DocumentDescription = {
        "source": listed["source"],
        "title": listed["title"],
        "passages": listed["passages"],
        "complete": listed["complete"],
        "version": first["metadata"]["document"] if listed["complete"] else None,
        "bytes": about.get("bytes"),
        "processed_at": about.get("processed_at"),
    }
    if "file" in listed:
        described["file"] = listed["file"]
    if "note" in about:
        described["note"] = about["note"]
    return described
