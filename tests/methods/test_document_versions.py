"""Versions of one document that are processed at the same time: the last to come is in, as a whole, or nothing is."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

for library in ("faiss", "pypdf"):
    pytest.importorskip(library)

from tests.methods.document_files import word_model  # noqa: E402
from tests.methods.packs import documents_lab  # noqa: E402
from tests.support.hub import ready_hub  # noqa: E402
from tests.support.timing import PATIENCE, eventually  # noqa: E402
from trunkline.client import connect  # noqa: E402
from trunkline.methods import documents, vectors  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402

ROOT = Path(__file__).parents[2]
METHODS = ("tests.methods.packs.slow_embeddings", "trunkline.methods.vectors", "trunkline.methods.documents")
ROUNDS = 10
COLLECTION = "shelf"

Call = Callable[[str, Any], Awaitable[Any]]


def version(name: str, parts: int = 12, last: str = "") -> str:
    """A text that shares some passages with all other versions, and has more of its own."""
    lines = [f"Part {part} tells of the animal{part} and of nothing else in the whole world." for part in range(4)]
    lines += [
        f"The {name} {part} is told of here by {name} in many words, of which none is needed." for part in range(parts)
    ]
    random.Random(name).shuffle(lines)
    return "\n\n".join([f"Of {name}:", *lines, f"{last} ends {name}."])


def params(text: str, **others: Any) -> dict[str, Any]:
    return {"collection": COLLECTION, "sources": [{"text": text, "source": "book"}], **others}


async def passages(call: Call) -> list[Any]:
    found = await call("vectors.search", {"collection": COLLECTION, "text": "part", "top_k": 1000})
    return sorted(found["matches"], key=lambda match: match["metadata"]["part"])


async def require_whole(call: Call, *texts: str) -> str:
    """Exactly one of the texts is in, as a whole; which one."""
    items = await passages(call)
    metadata = [item["metadata"] for item in items]
    assert len({each["document"] for each in metadata}) == 1, metadata
    assert [each["part"] for each in metadata] == list(range(metadata[0]["parts"]))
    joined = "".join("".join(item["text"].split()) for item in items)
    (text,) = [text for text in texts if "".join(text.split()) == joined]
    for item in items:
        assert item["text"] == text[item["metadata"]["start"] : item["metadata"]["end"]]
    return text


async def require_known(call: Call, text: str, *others: str) -> None:
    """Processing what is in changes nothing, and processing another version replaces it."""
    totals = (await call("documents.process", params(text)))["totals"]
    assert totals["embedded"] == totals["removed"] == 0, "what is in was not known to be"
    for other in (*others, text):
        await call("documents.process", params(other))
        assert await require_whole(call, text, *others) == other


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    documents_lab.reset()
    settings = {"data_dir": str(tmp_path / "data"), "model": word_model(tmp_path / "model")}
    async with LocalMethods(documents_lab, vectors, documents, settings=settings, stubs=documents_lab.STUBS) as made:
        yield made


async def some_turns(dice: random.Random) -> None:
    for _ in range(dice.choice([2, 4, 10, 30, 100])):
        await asyncio.sleep(0)


@pytest.mark.parametrize("known", [False, True])
async def test_of_two_versions_at_once_one_is_in_as_a_whole(methods: LocalMethods, known: bool) -> None:
    """The one whose processing has begun last. (That it is the last to come is shown with one held up.)"""
    dice = random.Random(71)
    documents_lab.before_write = lambda: some_turns(dice)
    for number in range(ROUNDS):
        one, two = version(f"one{number}"), version(f"two{number}", parts=dice.choice([2, 12, 30]))
        if not known:
            await methods.call("collections.create", {"name": COLLECTION})
        first = asyncio.create_task(methods.call("documents.process", params(one)))
        await some_turns(dice)
        entries = [(await methods.call("documents.process", params(two)))["documents"][0]]
        entries.insert(0, (await first)["documents"][0])
        winner = await require_whole(methods.call, one, two)
        assert "superseded" not in entries[winner == two], "it is in"
        for entry in entries:
            if entry.get("superseded"):
                assert (entry["passages"], entry["embedded"]) == (0, 0)
                assert "begun later" in entry["note"]
        await require_known(methods.call, winner, *{one, two} - {winner})
        if not known:
            await methods.call("collections.delete", {"name": COLLECTION})


async def test_a_version_that_a_later_one_overtook_says_so(methods: LocalMethods) -> None:
    """The earlier one is held up before its last write, by a word that the later one has not."""
    reached, go = asyncio.Event(), asyncio.Event()
    one, two = version("one"), version("two")
    await methods.call("documents.process", params(version("none")))

    async def hold() -> None:
        reached.set()
        documents_lab.before_write = None
        await go.wait()

    documents_lab.before_write = hold
    first = asyncio.create_task(methods.call("documents.process", params(one)))
    await reached.wait()
    await methods.call("documents.process", params(two))
    go.set()
    result = await first
    (entry,) = result["documents"]
    assert entry["superseded"] is True
    assert result["totals"]["superseded"] == 1
    assert result["totals"]["failed"] == result["totals"]["passages"] == result["totals"]["removed"] == 0
    assert await require_whole(methods.call, one, two) == two
    await require_known(methods.call, two, one)


async def test_what_is_deleted_while_it_is_processed_stays_deleted(methods: LocalMethods) -> None:
    dice = random.Random(72)
    documents_lab.before_write = lambda: some_turns(dice)
    for number in range(ROUNDS):
        text = version(f"one{number}")
        first = asyncio.create_task(methods.call("documents.process", params(text)))
        await some_turns(dice)
        try:
            await methods.call("documents.delete", {"collection": COLLECTION, "source": "book"})
        except Exception:
            assert number == 0, "there was no collection yet"
        entry = (await first)["documents"][0]
        items = await passages(methods.call)
        if entry.get("superseded") or not items:
            assert items == [], "parts of it are left"
        else:  # it was begun after the delete
            await require_whole(methods.call, text)
        await methods.call("documents.delete", {"collection": COLLECTION, "source": "book"})
        assert await passages(methods.call) == []


async def test_what_is_deleted_while_it_is_held_up_stays_deleted(methods: LocalMethods) -> None:
    reached, go = asyncio.Event(), asyncio.Event()
    await methods.call("documents.process", params(version("none")))

    async def hold() -> None:
        reached.set()
        await go.wait()

    documents_lab.before_write = hold
    first = asyncio.create_task(methods.call("documents.process", params(version("one"))))
    await reached.wait()
    await methods.call("documents.delete", {"collection": COLLECTION, "source": "book"})
    go.set()
    (entry,) = (await first)["documents"]
    assert entry["superseded"] is True
    assert await passages(methods.call) == []


async def test_a_version_that_broke_off_is_repaired_by_whichever_comes_next(methods: LocalMethods) -> None:
    old, new = version("old"), version("new", parts=300)
    await methods.call("documents.process", params(old))
    documents_lab.calls.clear()

    async def break_off() -> None:
        if len(documents_lab.calls) >= 8:  # of which each batch has two
            await asyncio.Event().wait()

    documents_lab.before_write = break_off
    call = asyncio.create_task(methods.call("documents.process", params(new)))
    while len(await passages(methods.call)) < 60:  # parts of the new version are in
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    documents_lab.before_write = None
    await methods.call("documents.process", params(old))
    assert await require_whole(methods.call, old, new) == old
    await require_known(methods.call, old, new)


async def test_nobody_misses_a_document_while_it_is_replaced(methods: LocalMethods) -> None:
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(await passages(methods.call)))

    await methods.call("documents.process", params(version("one")))
    documents_lab.before_write = look
    await methods.call("documents.process", params(version("two", parts=200)))
    assert len(seen) > 2
    assert min(seen) >= 3


@pytest.mark.parametrize("killed", [False, True])
async def test_executors_agree_which_version_is_the_last(tmp_path: Path, killed: bool) -> None:
    """Whichever executor processes a version, and the owner of the collection may be killed meanwhile."""
    dice = random.Random(73)
    env = {"TRUNKLINE_MODEL": word_model(tmp_path / "model"), "SIGNALS": str(tmp_path)}
    with ready_hub(*METHODS, cwd=ROOT, env=env, executors=2) as hub:
        async with connect(hub.url) as client, connect(hub.url) as other:
            for number in range(4 if killed else ROUNDS):
                one, two = version(f"one{number}"), version(f"two{number}", parts=dice.choice([2, 12, 60]))
                calls = [
                    asyncio.create_task(client.call("documents.process", params(one))),
                    asyncio.create_task(other.call("documents.process", params(two))),
                ]
                if killed:
                    await asyncio.sleep(dice.uniform(0, 0.1))
                    os.kill(dice.choice(sorted(hub.executor_pids())), signal.SIGKILL)
                entries = [(await call)["documents"][0] for call in calls]
                winner = await require_whole(client.call, one, two)
                assert not entries[0 if winner == one else 1].get("superseded"), "it is in"
                await require_known(client.call, winner, *{one, two} - {winner})
        hub.executor_pids()


async def test_a_job_and_a_call_agree_too(tmp_path: Path) -> None:
    env = {"TRUNKLINE_MODEL": word_model(tmp_path / "model"), "SIGNALS": str(tmp_path)}
    one, two = version("one", last="These words wait and"), version("two")
    with ready_hub(*METHODS, cwd=ROOT, env=env, executors=2) as hub:
        async with connect(hub.url) as client:
            await client.call("documents.process", params(version("none")))
            job = (await client.call("documents.process", params(one) | {"async": True}))["job"]
            await asyncio.to_thread(eventually, (tmp_path / "waiting").exists, "the job is under way", 2 * PATIENCE)
            await client.call("documents.process", params(two))
            (tmp_path / "go").touch()
            async with client.subscribe(f"jobs.{job['id']}") as events:
                while (job := await client.call("jobs.get", {"id": job["id"]}))["status"] in ("queued", "running"):
                    await anext(events)
            assert job["result"]["documents"][0]["superseded"] is True
            assert await require_whole(client.call, one, two) == two
            await require_known(client.call, two)


async def test_a_hub_that_was_killed_leaves_nothing_that_is_called_unchanged(tmp_path: Path) -> None:
    env = {"TRUNKLINE_MODEL": word_model(tmp_path / "model"), "SIGNALS": str(tmp_path)}
    options: dict[str, Any] = {
        "cwd": ROOT, "env": env, "executors": 2, "arguments": ("--data", str(tmp_path / "data")),
    }  # fmt: skip
    old, new = version("old"), version("new", parts=300, last="These words wait and")
    with ready_hub(*METHODS, **options) as hub:
        async with connect(hub.url) as client:
            await client.call("documents.process", params(old))
            call = asyncio.create_task(client.call("documents.process", params(new)))
            await asyncio.to_thread(eventually, (tmp_path / "waiting").exists, "it is under way", 2 * PATIENCE)
            async with asyncio.timeout(2 * PATIENCE):
                while len(await passages(client.call)) < 200:
                    await asyncio.sleep(0.02)
            hub.process.kill()
            hub.wait_ended(-signal.SIGKILL)
            call.cancel()
    (tmp_path / "go").touch()
    with ready_hub(*METHODS, **options) as hub:
        async with connect(hub.url) as client:
            await client.call("documents.process", params(old))
            assert await require_whole(client.call, old, new) == old
            await require_known(client.call, old, new)
