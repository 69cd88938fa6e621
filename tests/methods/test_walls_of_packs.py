"""Every method of the packs, tried by a principal of one tenant on what another tenant's of the same name has."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.support.libraries import skip_without

skip_without("faiss", "pypdf", "semantic_text_splitter")

from tests.hub.tenants import as_one_of, hub_of_tenants  # noqa: E402
from tests.hub.walls import SECRET, Trial, Trials, asked, require_apart, tried  # noqa: E402
from tests.methods.document_files import word_model  # noqa: E402
from tests.methods.packs import word_embeddings  # noqa: E402
from tests.support.peer import Peer  # noqa: E402
from trunkline.methods import documents, rag, vectors  # noqa: E402
from trunkline.methods.packs import PACKS  # noqa: E402
from trunkline.methods.registry import Registry  # noqa: E402
from trunkline.testing import MockHub  # noqa: E402

in_module = pytest.mark.asyncio(loop_scope="module")

TEXT: Final = f"A cat sleeps. {SECRET}"


def named(door: str | None = None, **more: Any) -> Trial:
    """A trial that names a collection as ``name``."""
    return Trial(lambda made: {"name": made["collection"], **more}, door=door)


def of_collection(**more: Any) -> Trial:
    """A trial that names a collection as ``collection``."""
    return Trial(lambda made: {"collection": made["collection"], **more})


def asks(door: str | None = None) -> tuple[Trial, Trial]:
    """Trials of a question: to a collection, and by a pipeline."""
    to_collection = Trial(
        lambda made: {"query": "a cat", "technique": "basic", "options": {"collection": made["collection"]}},
        door=door,
    )
    return to_collection, Trial(lambda made: {"query": "a cat", "pipeline_id": made["pipeline"]}, door=door)


TRIALS: Final[Trials] = {
    "embeddings.create": "keeps vectors by text and tenant: tests/methods/test_embeddings.py",
    "embeddings.model": "tells of the model",
    "collections.create": named(),
    "collections.delete": named(),
    "collections.export": named("websocket"),
    "collections.import": named("websocket"),
    "collections.list": Trial(lambda _made: {}, compared=False),
    "collections.rebuild": named(),
    "collections.stats": named(),
    "vectors.claim": of_collection(),
    "vectors.delete": of_collection(ids=["a"]),
    "vectors.get": of_collection(ids=["a"]),
    "vectors.hybrid": of_collection(text="a cat sleeps"),
    "vectors.lexical": of_collection(text="a cat sleeps"),
    "vectors.missing": of_collection(ids=["a"]),
    "vectors.search": of_collection(text="a cat sleeps"),
    "vectors.upsert": of_collection(items=[{"id": "a", "text": "bolt was here"}]),
    "documents.delete": of_collection(source="acme.md"),
    "documents.filling": of_collection(),
    "documents.get": of_collection(source="acme.md"),
    "documents.list": of_collection(),
    "documents.process": of_collection(sources=[{"text": "Of bolt.", "source": "acme.md"}], create=False),
    "rag.check": "keeps nothing",
    "rag.execute": asks(),
    "rag.retrieve": asks(),
    "rag.stream": asks("websocket"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mock(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MockHub]:
    folder = tmp_path_factory.mktemp("tenants")
    model = word_model(folder / "model")
    modules = (word_embeddings, vectors, rag, documents)
    async with hub_of_tenants(folder, *modules, pack_settings={"model": model}) as mock:
        yield mock


class Acme:
    """What ann of acme has made, and what she is told of it."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.names = {"collection": f"acme{number}_a"}

    async def make(self) -> None:
        """Make a collection with texts and a document, and a pipeline."""
        ann, collection = self.peer, self.names["collection"]
        await ann.result("collections.create", {"name": collection, "metadata": {"note": SECRET}})
        await ann.result("vectors.upsert", {"collection": collection, "items": [{"id": "a", "text": TEXT}]})
        source = {"text": TEXT, "source": "acme.md"}
        await ann.result("documents.process", {"collection": collection, "sources": [source]})
        config = {"options": {"collection": collection}}
        made = await ann.result("pipeline.initialize", {"technique": "basic", "config": config})
        self.names["pipeline"] = made

    async def told(self) -> list[Any]:
        """What she is told of all of it now."""
        collection = self.names["collection"]
        return await asked(
            self.peer,
            [
                ("vectors.get", {"collection": collection, "ids": ["a"]}),
                ("vectors.lexical", {"collection": collection, "text": "cat sleeps bolt", "top_k": 50}),
                ("vectors.missing", {"collection": collection, "ids": ["a", "b"]}),
                ("pipeline.get", {"pipeline_id": self.names["pipeline"]}),
            ],
        )


_numbers = itertools.count(1)


@pytest_asyncio.fixture(loop_scope="module")
async def acme(mock: MockHub) -> AsyncIterator[Acme]:
    async with as_one_of(mock, "acme") as peer:
        acme = Acme(peer, next(_numbers))
        await acme.make()
        yield acme


@in_module
@pytest.mark.parametrize(("method", "trial", "door"), tried(TRIALS))
async def test_it_tells_and_changes_nothing(mock: MockHub, acme: Acme, method: str, trial: Trial, door: str) -> None:
    await require_apart(mock, door, method, trial, acme.names, acme.told)


def test_every_method_is_tried() -> None:
    registry = Registry()
    for pack in PACKS.values():
        registry.add_module(importlib.import_module(pack.module))
    served = {info.name for info in registry.catalogue().methods}
    missing = served - TRIALS.keys()
    assert not missing, f"TRIALS has to say how {sorted(missing)} are tried, or that they keep nothing"
    assert not TRIALS.keys() - served, "of methods that there are"
