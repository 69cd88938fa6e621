"""``documents.*`` as a caller sees them: over real collections, with embeddings that count words."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.libraries import skip_without

skip_without("faiss", "pypdf", "docx", "reportlab")

from tests.methods.document_files import pdf, word_document, word_model  # noqa: E402
from tests.methods.packs import documents_lab  # noqa: E402
from tests.support.timing import PATIENCE  # noqa: E402
from trunkline.defaults import DEFAULT_MODEL  # noqa: E402
from trunkline.methods import documents, embeddings, rag, vectors  # noqa: E402
from trunkline.methods.documents import process  # noqa: E402
from trunkline.methods.documents.extract import extract  # noqa: E402
from trunkline.methods.documents.parsers import Parsers  # noqa: E402
from trunkline.methods.embeddings.model import find_model  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline_protocol.errors import ErrorCode, RpcError  # noqa: E402

STORY = "\n\n".join(
    f"Part {part} tells of the animal{part} and of nothing else in the whole world." for part in range(12)
)


class Lab:
    """Methods over a folder of documents."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "books"
        self.root.mkdir()
        self.progress: list[Any] = []
        self.settings = {
            "data_dir": str(folder / "data"),
            "model": word_model(folder / "model"),
            "documents_root": str(self.root),
        }
        self.methods = LocalMethods(
            documents_lab, vectors, rag, documents,
            settings=self.settings, on_progress=self.progress.append, stubs=documents_lab.STUBS,
        )  # fmt: skip

    def write(self, name: str, content: str | bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    async def process(self, *sources: dict[str, Any], **params: Any) -> Any:
        return await self.methods.call("documents.process", {"collection": "shelf", "sources": list(sources), **params})

    async def items(self, query: str = documents_lab.QUERY, top_k: int = 500) -> list[Any]:
        found = await self.methods.call("vectors.search", {"collection": "shelf", "text": query, "top_k": top_k})
        return sorted(found["matches"], key=lambda match: (match["metadata"]["source"], match["metadata"]["part"]))

    async def texts(self) -> list[str]:
        return [item["text"] for item in await self.items()]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    documents_lab.reset()
    made = Lab(tmp_path)
    async with made.methods:
        yield made


async def refused(code: int, says: str, call: Any) -> RpcError:
    with pytest.raises(RpcError, match=says) as caught:
        await call
    assert caught.value.code == code, caught.value
    return caught.value


async def test_passages_say_where_they_are_from(lab: Lab) -> None:
    lab.write("sub/story.md", f"# The Größe 😀\n\n{STORY}")
    result = await lab.process({"path": ".", "metadata": {"year": 1999}})
    (document,) = result["documents"]
    assert document == {
        "source": "sub/story.md", "title": "The Größe 😀",
        "passages": document["passages"], "embedded": document["passages"], "skipped": 0,
    }  # fmt: skip
    assert document["passages"] >= 6
    text = extract((lab.root / "sub/story.md").read_bytes(), "story.md").text
    items = await lab.items()
    assert len(items) == document["passages"]
    for part, item in enumerate(items):
        metadata = item["metadata"]
        assert item["text"] == text[metadata["start"] : metadata["end"]]
        assert metadata == {
            "source": "sub/story.md", "title": "The Größe 😀", "start": metadata["start"], "end": metadata["end"],
            "part": part, "parts": len(items), "document": metadata["document"], "year": 1999,
            "headings": [], "blocks": metadata["blocks"], **({"about": metadata["about"]} if part == 0 else {}),
        }  # fmt: skip


async def test_every_kind_of_source_can_be_given_at_once(lab: Lab) -> None:
    lab.write("a.txt", "A cat sat here.")
    lab.write("b.pdf", pdf("A dog ran.", "A fish swam.", title="Pets"))
    lab.write("c.docx", word_document("A bird flew.", heading="Birds"))
    lab.write("d.html", "<html><head><title>Bees</title></head><body><p>A bee flew.</p></body></html>")
    lab.write("e.png", b"\x89PNG\r\n\x1a\n\x00")
    result = await lab.process(
        {"path": "."},
        {"text": "# A mouse\n\nIt hid."},
        {"text": "A cow stood.", "source": "cow", "title": "Cows"},
        {"bytes": base64.b64encode(b"A pig lay.").decode(), "name": "pig.txt"},
        {"bytes": {"$bytes": base64.b64encode("A hen läid.".encode("latin-1")).decode()}, "name": "hen.txt"},
    )
    entries = {entry["source"]: entry for entry in result["documents"]}
    titles = {source: entry["title"] for source, entry in entries.items()}
    (mouse,) = [source for source in titles if source.startswith("text:")]
    assert titles == {
        "a.txt": "a.txt", "b.pdf": "Pets", "c.docx": "Birds", "d.html": "Bees", mouse: "A mouse", "cow": "Cows",
        "pig.txt": "pig.txt", "hen.txt": "hen.txt",
    }  # fmt: skip
    assert entries["hen.txt"]["note"] == "it is not UTF-8, and was read as windows-1252"
    assert result["totals"] == {
        "documents": 8, "failed": 0, "superseded": 0, "ignored": 1,
        "passages": 9, "embedded": 9, "skipped": 0, "removed": 0,
    }  # fmt: skip
    pets = [item for item in await lab.items() if item["metadata"]["source"] == "b.pdf"]
    assert {item["text"]: item["metadata"]["page"] for item in pets} == {"A dog ran.": 1, "A fish swam.": 2}


async def test_a_bad_file_does_not_stop_its_folder(lab: Lab) -> None:
    lab.write("a.txt", "A cat sat here.")
    lab.write("b.pdf", b"\x00garbage")
    lab.write("c.txt", b"binary\x00")
    (lab.root / "d.md").symlink_to(lab.root.parent / "secret.md")
    (lab.root / "e.md").symlink_to(lab.root / "gone.md")
    lab.write("f.txt", "A dog ran.")
    (lab.root.parent / "secret.md").write_text("secret words")
    result = await lab.process({"path": "."})
    errors = {entry["source"]: entry["error"] for entry in result["documents"] if "error" in entry}
    assert {source: error["code"] for source, error in errors.items()} == {
        "b.pdf": -32602, "c.txt": -32602, "d.md": 6002, "e.md": -32602,
    }  # fmt: skip
    assert "it is no pdf" in errors["b.pdf"]["message"]
    assert "it cannot be read: No such file" in errors["e.md"]["message"]
    assert await lab.texts() == ["A cat sat here.", "A dog ran."]
    assert result["totals"]["failed"] == 4


async def test_processing_again_embeds_nothing_and_reads_nothing(lab: Lab) -> None:
    lab.write("a.md", STORY)
    lab.write("b.txt", "A cat sat here.")
    first = await lab.process({"path": "."})
    documents_lab.embedded.clear()
    documents_lab.calls.clear()
    (lab.root / "a.md").touch()
    again = await lab.process({"path": "."})
    assert documents_lab.embedded == []
    assert again["totals"] == first["totals"] | {"embedded": 0, "skipped": first["totals"]["passages"]}
    assert [entry["title"] for entry in again["documents"]] == [entry["title"] for entry in first["documents"]]


async def test_a_changed_document_replaces_its_older_version(lab: Lab) -> None:
    lab.write("a.md", STORY)
    lab.write("b.txt", "A cat sat here.")
    before = (await lab.process({"path": "."}))["totals"]
    changed = STORY.replace("Part 5 tells", "Chapter 5 speaks").replace("Part 11 ", "") + "\n\nThe end came."
    lab.write("a.md", changed)
    documents_lab.embedded.clear()
    after = await lab.process({"path": "."})
    items = [item for item in await lab.items() if item["metadata"]["source"] == "a.md"]
    assert [item["metadata"]["part"] for item in items] == list(range(len(items)))
    assert all(item["text"] == changed[item["metadata"]["start"] : item["metadata"]["end"]] for item in items)
    assert "".join("".join(item["text"].split()) for item in items) == "".join(changed.split())
    assert 0 < len(documents_lab.embedded) < before["passages"], "what did not change was embedded again"
    assert after["totals"]["embedded"] == len(documents_lab.embedded)
    assert after["totals"]["removed"] > 0


async def test_a_shorter_document_leaves_nothing_behind(lab: Lab) -> None:
    lab.write("a.md", STORY)
    await lab.process({"path": "a.md"})
    lab.write("a.md", "A cat sat here.")
    await lab.process({"path": "a.md"})
    assert await lab.texts() == ["A cat sat here."]


async def test_other_sizes_are_another_version(lab: Lab) -> None:
    lab.write("a.md", STORY)
    await lab.process({"path": "a.md"})
    many = await lab.process({"path": "a.md"}, options={"chunk_tokens": 16})
    assert len(await lab.items()) == many["totals"]["passages"]
    again = await lab.process({"path": "a.md"}, options={"chunk_tokens": 16})
    assert again["totals"]["embedded"] == 0


async def test_other_metadata_are_put_in_without_embedding(lab: Lab) -> None:
    await lab.process({"text": STORY, "source": "s", "metadata": {"year": 1}})
    documents_lab.embedded.clear()
    await lab.process({"text": STORY, "source": "s", "metadata": {"year": 2}})
    assert documents_lab.embedded == []
    assert {item["metadata"]["year"] for item in await lab.items()} == {2}


async def test_what_stands_above_a_passage_is_embedded_with_it_and_not_kept_in_it(lab: Lab) -> None:
    text = "# Ovens\n\n## How hot?\n\n- 200 °C\n- `sqlite3_open()`\n\n## Sizes\n\nBig ones.\n"
    await lab.process({"text": text, "source": "s"})
    first, second = await lab.items()
    assert (first["text"], first["metadata"]["headings"]) == (
        "Ovens\n\nHow hot?\n\n- 200 °C\n- sqlite3_open()",
        ["How hot?"],
    )
    assert first["metadata"]["blocks"] == [
        ["heading", 0, 5], ["heading", 7, 15], ["list_item", 17, 25], ["list_item", 26, 42],
    ]  # fmt: skip
    assert (second["text"], second["metadata"]["title"], second["metadata"]["headings"]) == (
        "Sizes\n\nBig ones.", "Ovens", ["Sizes"],
    )  # fmt: skip
    assert set(documents_lab.embedded) == {first["text"], "Ovens\n\nSizes\n\nBig ones."}
    await lab.process({"text": text, "source": "s", "title": "Stoves"})
    assert "Stoves > Ovens\n\nSizes\n\nBig ones." in documents_lab.embedded
    assert {item["metadata"]["title"] for item in await lab.items()} == {"Stoves"}


async def test_a_search_finds_the_old_or_the_new_version_at_every_moment(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "BATCH", 2)
    await lab.process({"text": STORY, "source": "s"})
    seen = []

    async def look() -> None:
        found = [match["text"] for match in await lab.items()]
        seen.append(found)

    documents_lab.before_write = look
    new = STORY.replace("tells", "speaks")
    await lab.process({"text": new, "source": "s"})
    documents_lab.before_write = None
    assert len(seen) >= 3
    for found in seen:
        for part in range(12):
            assert any(f"animal{part} " in text for text in found), f"nothing about animal{part} among {found}"


async def test_text_that_comes_twice_is_two_passages(lab: Lab) -> None:
    page = " ".join(f"word{number}" for number in range(28))
    result = await lab.process({"text": "\n\n".join([page] * 4), "source": "s"})
    items = await lab.items()
    assert result["totals"]["passages"] == len(items) == 4
    assert len({item["metadata"]["start"] for item in items}) == 4


async def test_a_call_that_was_cancelled_is_gone_on_with(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GROUP_DOCUMENTS", 2)
    monkeypatch.setattr(process, "GROUPS_AT_ONCE", 1)
    for number in range(10):
        lab.write(f"{number}.md", f"{STORY}\n\nnumber {number}")
    reached = asyncio.Event()

    async def stop_after_six_writes() -> None:
        if len(documents_lab.calls) >= 6:
            reached.set()
            await asyncio.sleep(3600)

    documents_lab.calls.clear()
    documents_lab.before_write = stop_after_six_writes
    task = asyncio.create_task(lab.process({"path": "."}))
    await asyncio.wait_for(reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    documents_lab.before_write = None
    documents_lab.embedded.clear()
    result = await lab.process({"path": "."})
    totals = result["totals"]
    assert totals["failed"] == 0
    assert 0 < totals["embedded"] == len(documents_lab.embedded) < totals["passages"]
    assert len(await lab.items()) == totals["passages"]


async def test_what_an_older_interrupted_version_left_is_removed(lab: Lab) -> None:
    async def stop_before_the_first_passage() -> None:
        if len(documents_lab.calls) >= 1:
            raise RpcError(ErrorCode.INSUFFICIENT_RESOURCES, "the disk is full")

    documents_lab.calls.clear()
    documents_lab.before_write = stop_before_the_first_passage
    await refused(5002, "the disk is full", lab.process({"text": STORY, "source": "s"}))
    documents_lab.before_write = None
    assert len(await lab.items()) > 3
    result = await lab.process({"text": "A cat sat here.", "source": "s"})
    assert await lab.texts() == ["A cat sat here."]
    assert result["totals"]["removed"] > 3


async def test_progress_is_told(lab: Lab) -> None:
    for number in range(5):
        lab.write(f"{number}.md", f"{STORY}\n\nnumber {number}")
    result = await lab.process({"path": "."})
    await asyncio.sleep(0)
    last = lab.progress[-1]
    passages = result["totals"]["passages"]
    assert last == {
        "stage": "embedding", "documents_done": 5, "documents_total": 5,
        "passages_done": passages, "passages_total": passages, "current": "4.md",
    }  # fmt: skip


async def test_a_collection_is_only_made_where_that_is_wanted(lab: Lab) -> None:
    await refused(4001, "there is no collection 'shelf'", lab.process({"text": "words"}, create=False))
    await lab.methods.call("collections.create", {"name": "shelf"})
    assert (await lab.process({"text": "words"}, create=False))["totals"]["embedded"] == 1


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ({}, -32602, r"sources\.1: .*give one of text, path and bytes"),
        ({"text": "a", "path": "b"}, -32602, "give one of text, path and bytes"),
        ({"bytes": "YQ=="}, -32602, "bytes and name belong together"),
        ({"bytes": "not base64", "name": "a.txt"}, -32602, r"sources\.1\.bytes: .*base64"),
        ({"path": "a.md", "title": "T"}, -32602, "source and title are for text and bytes"),
        ({"text": "a", "include": ["*"]}, -32602, "include and exclude are for a path"),
        ({"text": "a", "metadata": {"page": 1}}, -32602, "metadata: page are names of the passage's own"),
        ({"text": "a", "metadata": {"big": "x" * 20_000}}, -32602, "each passage carries at most 16,384"),
        ({"text": "a", "metadata": {"big": 2**60}}, -32602, "metadata cannot be kept as they are"),
        ({"path": "../secret.md"}, 6002, "path '../secret.md' is outside"),
        ({"path": "/etc/passwd"}, 6002, "path '/etc/passwd' is outside"),
        ({"path": "nobody.md"}, -32602, "path 'nobody.md': there is no such file or folder"),
    ],
)
async def test_sources_that_cannot_be_are_refused_before_anything_is_done(
    lab: Lab, source: dict[str, Any], code: int, says: str
) -> None:
    await refused(code, says, lab.process({"text": "good words"}, source))
    await refused(4001, "no collection", lab.methods.call("collections.stats", {"name": "shelf"}))


async def test_two_documents_of_one_name_are_refused(lab: Lab) -> None:
    await refused(-32602, "'s' is given twice", lab.process({"text": "a", "source": "s"}, {"text": "b", "source": "s"}))
    lab.write("s", "A cat sat here.")
    await refused(-32602, "'s' is given twice", lab.process({"text": "a", "source": "s"}, {"path": "s"}))
    await refused(-32602, "'s' is given twice", lab.process({"path": "s"}, {"text": "a", "source": "s"}))
    assert (await lab.process({"path": "s"}, {"path": "s"}))["totals"]["documents"] == 1
    lab.write("a.md", "words")
    assert (await lab.process({"path": "a.md"}, {"path": "."}))["totals"]["documents"] == 1


async def test_sizes_the_model_does_not_read_are_refused(lab: Lab) -> None:
    await refused(-32602, "chunk_tokens: 31 is more", lab.process({"text": "a"}, options={"chunk_tokens": 31}))


async def test_a_document_can_be_deleted(lab: Lab) -> None:
    await lab.process({"text": STORY, "source": "s"}, {"text": "A cat sat here.", "source": "t"})
    params = {"collection": "shelf", "source": "s"}
    assert (await lab.methods.call("documents.delete", params))["deleted"] > 3
    assert await lab.methods.call("documents.delete", params) == {"deleted": 0}
    assert await lab.texts() == ["A cat sat here."]


async def test_long_names_are_told_apart(lab: Lab) -> None:
    start = "x" * 1000
    await lab.process({"text": "A cat.", "source": f"{start}1"}, {"text": "A dog.", "source": f"{start}2"})
    assert await lab.texts() == ["A cat.", "A dog."]


async def test_as_a_job_the_call_is_handed_to_the_hub(lab: Lab) -> None:
    lab.write("a.md", STORY)
    data = base64.b64encode(b"A pig lay.").decode()
    given = [{"path": "a.md", "metadata": {"year": 1}}, {"bytes": {"$bytes": data}, "name": "pig.txt"}]
    started = await lab.process(*given, options={"chunk_tokens": 20}, **{"async": True})
    assert started == {"job": documents_lab.JOB}
    job = documents_lab.jobs.pop()
    assert job["method"] == "documents.process"
    result = await lab.methods.call(job["method"], job["params"])
    assert [entry["source"] for entry in result["documents"]] == ["a.md", "pig.txt"]
    await refused(6002, "outside", lab.process({"path": "/etc"}, **{"async": True}))
    assert documents_lab.jobs == []


async def test_an_answer_lets_its_reader_open_the_passage(lab: Lab) -> None:
    lab.write("animals.md", f"# Animals\n\n{STORY}")
    await lab.process({"path": "."})
    answer = await lab.methods.call(
        "rag.execute",
        {"technique": "basic", "query": "what tells of the animal7", "options": {"collection": "shelf", "top_k": 3}},
        timeout_ms=10_000,
    )
    best = answer["retrieved_documents"][0]
    assert "animal7" in best["text"]
    where = best["metadata"]
    assert (where["source"], where["title"]) == ("animals.md", "Animals")
    text = extract((lab.root / where["source"]).read_bytes(), where["source"]).text
    assert text[where["start"] : where["end"]] == best["text"]
    assert "[1]" in answer["answer"]


async def test_a_search_need_not_wait_for_a_document_that_is_being_read(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.process({"text": "A cat sat here.", "source": "cat"})
    begun, go = threading.Event(), threading.Event()

    read = Parsers.parse

    def slowly(parsers: Parsers, request: Any, check: Any) -> Any:
        begun.set()
        assert go.wait(PATIENCE)
        return read(parsers, request, check)

    monkeypatch.setattr(Parsers, "parse", slowly)
    lab.write("slow.txt", "A dog ran.")
    processing = asyncio.create_task(lab.process({"path": "slow.txt"}))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    assert await lab.texts() == ["A cat sat here."]
    go.set()
    assert (await processing)["totals"]["embedded"] == 1


@pytest.mark.ml
async def test_with_the_real_model_a_question_finds_its_page(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    if not find_model(DEFAULT_MODEL).local:
        pytest.skip("the packaged model is not installed")
    pages = (
        "The reset button is on the back of the device, under a small cover.",
        "Batteries last three years. Use type CR2032 and mind the poles.",
        "The warranty covers two years from the day of purchase.",
    )
    (tmp_path / "manual.pdf").write_bytes(pdf(*(f"{page}\n" * 12 for page in pages), title="The manual"))
    settings = {"data_dir": str(tmp_path / "data"), "documents_root": str(tmp_path)}
    async with LocalMethods(embeddings, vectors, rag, documents, settings=settings) as methods:
        params = {"collection": "shelf", "sources": [{"path": "manual.pdf"}], "options": {"chunk_tokens": 64}}
        result = await methods.call("documents.process", params)
        assert result["totals"]["passages"] > 3
        question = {"query": "which battery does it need?", "options": {"collection": "shelf", "top_k": 3}}
        answer = await methods.call("rag.execute", question, timeout_ms=60_000)
        best = answer["retrieved_documents"][0]
        assert "CR2032" in best["text"]
        assert best["metadata"]["title"] == "The manual"
        assert best["metadata"]["page"] == 2
