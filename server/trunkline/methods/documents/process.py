"""The work of ``documents.process``: documents in groups, from their bytes to items of a collection.

Of each group, in this order: read and hash; look up which are in unchanged; read the text of the others, split it;
claim them; put new passages in; and in one moment take those of older versions out and put the first passages in, which
says that the rest is there (:mod:`trunkline.methods.documents.plan`). At every moment a search finds the old version,
the new one or parts of both, never none. Of versions of one document that are processed at the same time the one that
was begun last is put in (:mod:`trunkline.methods.vectors.versions`). Some groups are on their way at once, so that one
is read while another is embedded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from trunkline import Context, ErrorCode, RpcError
from trunkline.methods.documents.blocks import Unreadable
from trunkline.methods.documents.filling import FillingCall
from trunkline.methods.documents.folders import FoundFile, Roots
from trunkline.methods.documents.plan import (
    Item,
    embedded_text,
    fingerprint,
    first_id,
    items_of,
    plan,
    stale,
    to_upsert,
)
from trunkline.methods.documents.reading import Reading
from trunkline.methods.documents.sources import Pending, as_error

GROUP_DOCUMENTS: Final = 64
GROUP_BYTES: Final = 16 * 2**20
GROUPS_AT_ONCE: Final = 3
BATCH: Final = 64
"""Passages of one upsert, which is one write to disk."""
BATCHES_AT_ONCE: Final = 4
TEXTS_PER_CALL: Final = 32
"""Few enough that a query which comes in between does not wait long."""
LOOKUP: Final = 512
"""Ids of one ``vectors.get``."""
REPORT_EVERY: Final = 0.1


class DocumentFault(TypedDict):
    """Why a document was not processed."""

    code: int
    message: str


class ProcessedDocument(TypedDict):
    """The outcome of a document: of its ``passages`` some were ``embedded``, the others in already (``skipped``).

    ``note`` is something its owner should know, such as a guessed encoding. ``superseded`` is true where a version that
    was begun later is in, or on its way, instead of this one.
    """

    source: str
    title: str | None
    passages: int
    embedded: int
    skipped: int
    note: NotRequired[str]
    superseded: NotRequired[bool]
    error: NotRequired[DocumentFault]


class Totals(TypedDict):
    """Sums of all documents. ``ignored`` are files in folders that are no documents, ``removed`` older passages."""

    documents: int
    failed: int
    superseded: int
    ignored: int
    passages: int
    embedded: int
    skipped: int
    removed: int


class Processed(TypedDict):
    """The result of ``documents.process``, with documents in the order of the sources."""

    collection: str
    documents: list[ProcessedDocument]
    totals: Totals


@dataclass(slots=True)
class Entry:
    """The state of one document in this call."""

    pending: Pending
    version: str = ""
    data: bytes | None = None
    title: str | None = None
    passages: int = 0
    embedded: int = 0
    note: str | None = None
    error: RpcError | None = None
    items: list[Item] = field(default_factory=list)
    turn: int = 0
    superseded: bool = False
    finished: bool = False

    @property
    def changed(self) -> bool:
        """Whether it has passages that are to be put in."""
        return bool(self.items)

    def supersede(self) -> None:
        """Give this version up: another one is put in, and nothing of this one stays."""
        self.superseded, self.items, self.passages, self.embedded = True, [], 0, 0
        self.note = "a version of it that was begun later is put in instead"

    def to_wire(self) -> ProcessedDocument:
        """The document's entry in the result."""
        entry: ProcessedDocument = {
            "source": self.pending.source,
            "title": self.title,
            "passages": self.passages,
            "embedded": self.embedded,
            "skipped": self.passages - self.embedded,
        }
        if self.note is not None:
            entry["note"] = self.note
        if self.superseded:
            entry["superseded"] = True
        if self.error is not None:
            entry["error"] = {"code": self.error.code, "message": self.error.message}
        return entry


class ProcessRun:
    """One call of ``documents.process``.

    Args:
        reading: how documents are read and split; its settings are part of each document's fingerprint.
        model: what made the collection's vectors, if it has any.
        filling: is told how far it is.
    """

    def __init__(
        self,
        ctx: Context,
        collection: str,
        documents: Sequence[Pending],
        roots: Roots,
        reading: Reading,
        model: str | None,
        filling: FillingCall,
    ) -> None:
        self.removed = 0
        self.entries = [Entry(each) for each in documents]
        self._ctx = ctx
        self._collection = collection
        self._roots = roots
        self._reading = reading
        self._one_at_a_time = asyncio.Lock()
        self._over = False
        self._model = model
        self._filling = filling
        self._batches = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._passages_done = 0
        self._current: str | None = None
        self._read = 0
        self._sent = self._turn = 0
        self._reported = 0.0

    async def work(self) -> None:
        """Process all documents.

        Raises:
            RpcError: the error of the collection or the embeddings. A document that cannot be read raises none:
                its entry has the error.
        """
        gate = asyncio.Semaphore(GROUPS_AT_ONCE)
        waiting = iter(self.entries)
        self._filling.tell(0, len(self.entries))
        is_files = any(isinstance(entry.pending.content, FoundFile) for entry in self.entries)
        self._sent = self._turn = await self._draw()
        try:
            async with asyncio.TaskGroup() as tasks:
                while group := await self._reading.in_thread(self._hash, waiting):
                    await gate.acquire()
                    tasks.create_task(self._group(group, gate))
                    if is_files:  # before the next ones are read
                        self._turn = await self._draw()
        except BaseExceptionGroup as failed:
            raise _first(failed) from None
        finally:
            self._over = True
        self._report(at_once=True)

    async def _group(self, group: list[Entry], gate: asyncio.Semaphore) -> None:
        try:
            await self._skip_unchanged(group)
            for entry in group:
                if entry.data is not None:
                    async with self._one_at_a_time:
                        await self._extract(entry)
                    self._report()
            await self._store([entry for entry in group if entry.changed])
            for entry in group:
                entry.finished = True
            self._report()
        finally:
            gate.release()

    # --- documents ---

    def _check(self) -> None:
        self._ctx.raise_if_cancelled()
        if self._over:
            raise RpcError(ErrorCode.CANCELLED, f"{self._ctx.method} has failed already")

    def _hash(self, waiting: Iterator[Entry]) -> list[Entry]:
        """The next group, read and hashed. Empty when all are through."""
        group: list[Entry] = []
        size = 0
        for entry in waiting:
            self._check()
            group.append(entry)
            self._current = entry.pending.source
            entry.turn = self._turn if isinstance(entry.pending.content, FoundFile) else self._sent
            self._read += 1
            try:
                entry.data = entry.pending.load(self._roots)
            except (Unreadable, RpcError) as error:
                entry.error = as_error(error)
                continue
            pending = entry.pending
            settings = self._reading.settings | {"title": pending.title, "metadata": pending.metadata}
            settings |= {"file": pending.file} if pending.file else {}
            entry.version = fingerprint(entry.data, entry.pending.source, settings)
            size += len(entry.data)
            if len(group) >= GROUP_DOCUMENTS or size >= GROUP_BYTES:
                break
        return group

    async def _extract(self, entry: Entry) -> None:
        """Read and split a document. Of one call this is one at a time, so that it is each call's turn."""
        assert entry.data is not None
        pending, self._current = entry.pending, entry.pending.source
        data, entry.data = entry.data, None
        try:
            name = None if isinstance(pending.content, str) else pending.name
            document = await self._reading.read(data, name, pending.title, self._check)
        except Unreadable as error:
            entry.error = as_error(error)
        except RpcError as error:
            self._check()  # which ends the call, not this document alone
            entry.error = error
        else:
            entry.note = document.note
            entry.title = document.title or pending.source.rpartition("/")[2]
            about: dict[str, Any] = {"bytes": len(data), "processed_at": int(time.time() * 1000)}
            about |= {"note": document.note} if document.note else {}
            about |= {"file": pending.file} if pending.file else {}
            entry.items = items_of(document, pending.source, entry.title, entry.version, pending.metadata, about)
            entry.passages = len(document.passages)

    # --- the collection ---

    async def _skip_unchanged(self, group: list[Entry]) -> None:
        entries = [entry for entry in group if entry.data is not None]
        stored = await self._get([first_id(entry.pending.source) for entry in entries])
        for entry, first in zip(entries, stored, strict=True):
            metadata = {} if first is None else first["metadata"]
            if metadata.get("document") == entry.version:
                entry.title, entry.passages, entry.data = metadata["title"], metadata["parts"], None
                self._passages_done += entry.passages
                entry.finished = True

    async def _draw(self) -> int:
        turn: int = (await self._call("vectors.claim"))["turn"]
        return turn

    async def _store(self, entries: list[Entry]) -> None:
        """Put documents in, the first passages last, however often the collection changes hands meanwhile."""
        again = False
        while entries:
            try:
                await self._store_claimed(entries, again)
                return
            except RpcError as error:
                if not error.data.get("claim_again"):
                    raise
            self._check()
            again = True
            # What was said of the last write may be lost, and it may have been done.
            stored = await self._get([first_id(entry.pending.source) for entry in entries])
            pairs = zip(entries, stored, strict=True)
            entries = [entry for entry, first in pairs if first is None or _version_of(first) != entry.version]

    async def _store_claimed(self, entries: list[Entry], again: bool) -> None:
        begun = {
            entry.pending.source: {"first": first_id(entry.pending.source), "turn": entry.turn, "again": again}
            for entry in entries
        }
        claimed = await self._call("vectors.claim", documents=begun)
        entries = _left(entries, claimed["superseded"])
        if not entries:
            return
        claim = {"opening": claimed["opening"], "turns": {entry.pending.source: entry.turn for entry in entries}}
        plans = []
        for entry in entries:
            stored = await self._get([item["id"] for item in entry.items])
            plans.append(plan(entry.items, stored))
            self._passages_done += plans[-1].kept
        for entry, each in zip(entries, plans, strict=True):
            entry.embedded = max(entry.embedded, len(each.embed) + (not each.first_is_known))
        await self._upsert(
            [item for each in plans for item in each.embed], [item for each in plans for item in each.renew], claim
        )
        firsts = await self._with_vectors([each.first for each in plans if each.first_is_known])
        firsts += await self._with_new_vectors([each.first for each in plans if not each.first_is_known])
        filter_ = stale({entry.pending.source: entry.version for entry in entries})
        answer = await self._call(
            "vectors.upsert", items=[to_upsert(item) for item in firsts], replaces=filter_, claim=claim
        )
        self._passages_done += len(firsts)
        self.removed += answer["deleted"]
        for entry in _left(entries, answer["superseded"]):
            entry.items = []

    async def _upsert(self, embed: list[Item], renew: list[Item], claim: Item) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for items, known in ((embed, False), (renew, True)):
                    for start in range(0, len(items), BATCH):
                        await self._batches.acquire()
                        tasks.create_task(self._upsert_batch(items[start : start + BATCH], known, claim))
        except BaseExceptionGroup as failed:
            raise _first(failed) from None

    async def _upsert_batch(self, items: list[Item], known: bool, claim: Item) -> None:
        try:
            items = await (self._with_vectors(items) if known else self._with_new_vectors(items))
            await self._call("vectors.upsert", items=[to_upsert(item) for item in items], claim=claim)
        finally:
            self._batches.release()
        self._passages_done += len(items)
        self._report()

    async def _with_vectors(self, items: list[Item]) -> list[Item]:
        """Items with the vectors that are there. One that was deleted in between is embedded again."""
        if not items:
            return []
        ids = [item["id"] for item in items]
        stored = (await self._call("vectors.get", ids=ids, vectors=True))["items"]
        pairs = [*zip(items, stored, strict=True)]
        gone = iter(await self._with_new_vectors([item for item, there in pairs if there is None]))
        return [item | {"vector": there["vector"]} if there else next(gone) for item, there in pairs]

    async def _with_new_vectors(self, items: list[Item]) -> list[Item]:
        """Items with vectors of their texts below their headings.

        Raises:
            RpcError: 4001, the collection's vectors are those of another model.
        """
        if self._model is None:  # the collection has none yet: it takes that of the first text it embeds itself
            return items
        made: list[Item] = []
        for start in range(0, len(items), TEXTS_PER_CALL):
            part = items[start : start + TEXTS_PER_CALL]
            params = {"input": [embedded_text(item) for item in part], "encoding_format": "base64"}
            answer = await self._ctx.call("embeddings.create", params)
            if answer["model"] != self._model:
                raise RpcError(
                    ErrorCode.INVALID_CONFIGURATION,
                    f"collection {self._collection!r} has vectors of {self._model}, and texts are embedded by "
                    f"{answer['model']}: set TRUNKLINE_MODEL to the former, or process them into another collection",
                )
            vectors = [each["embedding"] for each in answer["data"]]
            made += [item | {"vector": vector} for item, vector in zip(part, vectors, strict=True)]
        return made

    async def _get(self, ids: list[str]) -> list[Item | None]:
        found: list[Item | None] = []
        for start in range(0, len(ids), LOOKUP):
            found += (await self._call("vectors.get", ids=ids[start : start + LOOKUP]))["items"]
        return found

    async def _call(self, method: str, **params: Any) -> Any:
        return await self._ctx.call(method, {"collection": self._collection, **params})

    # --- progress and result ---

    def _report(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if now < self._reported + REPORT_EVERY and not at_once:
            return
        self._reported = now
        self._filling.tell(sum(entry.finished for entry in self.entries), len(self.entries))
        self._ctx.progress(
            {
                "stage": "reading" if self._read < len(self.entries) else "embedding",
                "documents_done": sum(entry.finished for entry in self.entries),
                "documents_total": len(self.entries),
                "passages_done": self._passages_done,
                "passages_total": sum(entry.passages for entry in self.entries),
                "current": self._current,
            }
        )

    def result(self, ignored: int) -> Processed:
        """The result of the call.

        Args:
            ignored: files in folders that are no documents.
        """
        entries = self.entries
        passages = sum(entry.passages for entry in entries if entry.error is None)
        embedded = sum(entry.embedded for entry in entries)
        return {
            "collection": self._collection,
            "documents": [entry.to_wire() for entry in entries],
            "totals": {
                "documents": len(entries),
                "failed": sum(entry.error is not None for entry in entries),
                "superseded": sum(entry.superseded for entry in entries),
                "ignored": ignored,
                "passages": passages,
                "embedded": embedded,
                "skipped": passages - embedded,
                "removed": self.removed,
            },
        }


def _left(entries: list[Entry], superseded: Sequence[str]) -> list[Entry]:
    """The entries that are still to be put in; the others are told."""
    for entry in entries:
        if entry.pending.source in superseded:
            entry.supersede()
    return [entry for entry in entries if not entry.superseded]


def _version_of(first: Item) -> Any:
    """The version that is in as a whole, by the first passage."""
    return first["metadata"].get("document")


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error a caller is told, of tasks that failed together."""
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
