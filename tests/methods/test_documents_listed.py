"""Which documents a collection has, what is known of each, and how far a collection is that is being filled."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

for library in ("faiss", "lxml", "pypdf"):
    pytest.importorskip(library)

from tests.methods.document_files import word_model  # noqa: E402
from tests.methods.packs import documents_lab  # noqa: E402
from trunkline.methods import documents, vectors  # noqa: E402
from trunkline.methods.documents import listing  # noqa: E402
from trunkline.methods.documents.filling import Fillings  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline_protocol.errors import ErrorCode, RpcError  # noqa: E402

COLLECTION = "shelf"


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    documents_lab.reset()
    settings = {"data_dir": str(tmp_path / "data"), "model": word_model(tmp_path / "model")}
    async with LocalMethods(documents_lab, vectors, documents, settings=settings, stubs=documents_lab.STUBS) as made:
        yield made


async def process(methods: LocalMethods, *sources: dict[str, Any]) -> Any:
    return await methods.call("documents.process", {"collection": COLLECTION, "sources": list(sources)})


async def pages(methods: LocalMethods, **params: Any) -> list[str]:
    """All names, page by page."""
    names: list[str] = []
    cursor = ""
    while True:
        given = {"collection": COLLECTION, "cursor": cursor, **params}
        page = await methods.call("documents.list", given)
        assert len(page["documents"]) <= params.get("limit", 100)
        names += [document["source"] for document in page["documents"]]
        if page["cursor"] is None:
            return names
        cursor = page["cursor"]


@pytest.mark.parametrize("most", [1000, 8])
async def test_documents_are_listed_page_by_page(
    methods: LocalMethods, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(listing, "MOST_FOUND", most)
    names = sorted(f"{folder}/{number:02}" for folder in ("a", "b", "b-c") for number in range(10))
    await process(methods, *({"text": f"Text {name}.\n\n" * 30, "source": name} for name in names))
    assert await pages(methods) == names
    assert await pages(methods, limit=4) == names
    assert await pages(methods, limit=3, prefix="b/") == [name for name in names if name.startswith("b/")]
    assert await pages(methods, prefix="c") == []


async def test_what_is_no_document_is_not_listed(methods: LocalMethods) -> None:
    await process(methods, {"text": "Words.", "source": "s", "title": "T"})
    other = {"id": "x", "text": "an item", "metadata": {"part": 0, "source": "x"}}
    await methods.call("vectors.upsert", {"collection": COLLECTION, "items": [other]})
    listed = await methods.call("documents.list", {"collection": COLLECTION})
    assert listed == {
        "documents": [{"source": "s", "title": "T", "passages": 1, "complete": True}], "cursor": None,
    }  # fmt: skip


async def test_all_that_is_known_of_a_document(methods: LocalMethods) -> None:
    data = "Größe “eins”".encode("windows-1252")
    await process(methods, {"bytes": {"$bytes": base64.b64encode(data).decode()}, "name": "a.txt"})
    found = await methods.call("documents.get", {"collection": COLLECTION, "source": "a.txt"})
    assert found == {
        "source": "a.txt", "title": "a.txt", "passages": 1, "complete": True, "version": found["version"],
        "bytes": len(data), "note": "it is not UTF-8, and was read as windows-1252",
        "processed_at": found["processed_at"],
    }  # fmt: skip
    assert len(found["version"]) == 32
    with pytest.raises(RpcError, match=r"there is no document 'b\.txt'") as caught:
        await methods.call("documents.get", {"collection": COLLECTION, "source": "b.txt"})
    assert caught.value.code == ErrorCode.INVALID_PARAMS


async def test_how_far_a_collection_is_can_be_asked_meanwhile(methods: LocalMethods) -> None:
    await process(methods, {"text": "Words.", "source": "s"})
    nothing = {"calls": 0, "documents_done": 0, "documents_total": 0}
    assert await methods.call("documents.filling", {"collection": COLLECTION}) == nothing
    reached, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go.wait()

    documents_lab.before_write = hold
    call = asyncio.create_task(process(methods, *({"text": f"Text {n}.", "source": f"{n}"} for n in range(3))))
    await reached.wait()
    assert await methods.call("documents.filling", {"collection": COLLECTION}) == {
        "calls": 1, "documents_done": 0, "documents_total": 3,
    }  # fmt: skip
    with pytest.raises(RpcError, match="no collection 'other'"):
        await methods.call("documents.filling", {"collection": "other"})
    go.set()
    await call
    assert await methods.call("documents.filling", {"collection": COLLECTION}) == nothing


def test_what_was_left_behind_by_a_killed_process_does_not_count(tmp_path: Path) -> None:
    fillings = Fillings(tmp_path)
    with fillings.begun("default", "a") as call:
        call.tell(2, 5)
        (path,) = tmp_path.iterdir()
        kept = path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        assert fillings.of("default", "a") == {"calls": 1, "documents_done": 2, "documents_total": 5}
        assert fillings.of("acme", "a")["calls"] == 0, "another tenant's of the same name"
    path.write_bytes(kept)
    assert fillings.of("default", "a")["calls"] == 0
    assert not path.exists()
