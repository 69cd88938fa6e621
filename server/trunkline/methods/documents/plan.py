"""Plans what to write: which passages a collection has, lacks, or has of older versions. Pure.

The first passage of a document has an id made of its source alone, and is written last: whoever finds it with a
document's fingerprint knows that all of that document is in, and nothing of another version. While a version is put in,
that passage has no fingerprint (:mod:`trunkline.methods.vectors.versions`). So an unchanged document costs a hash and
one lookup, and one that was interrupted is gone over again, whatever version comes next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trunkline.methods.documents.split import Parsed

RESERVED: Final = frozenset(
    {"source", "title", "start", "end", "part", "parts", "page", "document", "headings", "blocks", "about"}
)
"""Names in the metadata of a passage that are not the caller's."""
FORMAT: Final = 3
"""Raised when the same file would now give other passages, so that all are processed again."""
MAX_SOURCE: Final = 1024
_MAX_PREFIX: Final = 460

ABOUT: Final = "about"
"""Of a first passage: what is known of the document beside its passages."""
CONTEXT: Final = "context"
"""Of an item that is planned: what is embedded before its text. It is not the collection's."""

Item = dict[str, Any]


@dataclass(slots=True)
class Plan:
    """The writes that the passages of one document need; items are as ``vectors.upsert`` takes them.

    Attributes:
        embed: those whose text is new, the first passage aside.
        renew: those whose text is there under other metadata: they go in again with the vector they have.
        kept: how many need nothing.
        first: the first passage, and whether its text is there already.
    """

    embed: list[Item] = field(default_factory=list)
    renew: list[Item] = field(default_factory=list)
    kept: int = 0
    first: Item = field(default_factory=dict)
    first_is_known: bool = False


def first_id(source: str) -> str:
    """The id of a document's first passage."""
    return f"{_prefix(source)}#0"


def fingerprint(data: bytes, source: str, settings: dict[str, Any]) -> str:
    """The digest of a version of a document, processed in this way: 32 hexadecimal digits.

    Args:
        settings: whatever else its passages depend on: title, metadata, sizes.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([FORMAT, source, settings], sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()[:32]


def items_of(
    document: Parsed, source: str, title: str, version: str, own: dict[str, Any], about: dict[str, Any]
) -> list[Item]:
    """The passages of a document as items. An id depends on a passage's text, and on how often it came before."""
    items: list[Item] = []
    seen: dict[str, int] = {}
    passages = document.passages
    for part, (passage, page) in enumerate(zip(passages, document.pages, strict=True)):
        digest = hashlib.sha256(passage.text.encode()).hexdigest()[:24]
        times = seen[digest] = seen.get(digest, -1) + 1
        metadata = own | {
            "source": source, "title": title, "start": passage.start, "end": passage.end,
            "part": part, "parts": len(passages), "document": version, "headings": [*passage.headings],
            "blocks": [[block.kind, block.start, block.end] for block in passage.blocks],
        } | ({"page": page} if page is not None else {})  # fmt: skip
        name = f"{digest}.{times}" if times else digest
        item_id = f"{_prefix(source)}#{name}" if part else first_id(source)
        items.append({"id": item_id, "text": passage.text, "metadata": metadata, CONTEXT: passage.context})
    if items:
        items[0]["metadata"][ABOUT] = about
    return items


def plan(items: Sequence[Item], stored: Sequence[Item | None]) -> Plan:
    """Compare a document's items with what the collection has under their ids, in the same order."""
    first, *others = zip(items, stored, strict=True)
    wanted = Plan(first=first[0], first_is_known=_has_text(*first))
    for item, there in others:
        if not _has_text(item, there):
            wanted.embed.append(item)
        elif there is not None and there["metadata"] != item["metadata"]:
            wanted.renew.append(item)
        else:
            wanted.kept += 1
    return wanted


def stale(documents: dict[str, str]) -> dict[str, Any]:
    """A filter for what is left of older versions, first passages aside.

    Args:
        documents: source to fingerprint. A fingerprint belongs to one source, so that the two lists need not be
            looked at pair by pair.
    """
    return {
        "source": {"$in": [*documents]},
        "document": {"$nin": [*documents.values()]},
        "part": {"$ne": 0},
    }


def embedded_text(item: Item) -> str:
    """What the model is given of an item: title and headings that its text stands below, and the text."""
    return f"{item[CONTEXT]}\n\n{item['text']}" if item[CONTEXT] else item["text"]


def to_upsert(item: Item) -> Item:
    """An item as ``vectors.upsert`` takes it."""
    return {name: value for name, value in item.items() if name != CONTEXT}


def _has_text(item: Item, there: Item | None) -> bool:
    """Whether the collection has a vector of this very text below these very headings."""
    if there is None or there.get("text") != item["text"]:
        return False
    known = there["metadata"]
    return all(known.get(name) == item["metadata"][name] for name in ("title", "headings"))


def _prefix(source: str) -> str:
    if len(source) <= _MAX_PREFIX:
        return source
    return f"{source[: _MAX_PREFIX - 17]}~{hashlib.sha256(source.encode()).hexdigest()[:16]}"
