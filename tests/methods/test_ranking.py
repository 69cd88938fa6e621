"""The rankers: the features of ``rerank``, the graph, and a real cross-encoder, of a few kilobytes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("faiss")
pytest.importorskip("networkx")

from tests.methods.packs import word_embeddings
from trunkline import Passage
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline.methods.rag.graph import entities
from trunkline.methods.rag.graph import ranked as ranked_by_links
from trunkline.methods.rag.ranking import WEIGHTS, features, ranked
from trunkline_protocol.errors import RpcError

QUERY = "open a database connection"


def passage(id: str, text: str, part: int, dense: float = 0.5, lexical: float = 0.0, **metadata: object) -> Passage:
    return Passage(id, dense, text, {"source": "page", "part": part, **metadata}, dense, lexical)


def of(name: str, *passages: Passage) -> list[float]:
    at = [*WEIGHTS].index(name)
    return [each[at] for each in features(QUERY, passages)]


def test_each_feature_says_what_its_name_says() -> None:
    first = passage("first", "You open the connection to a database.", 0, 0.9, 4.0, blocks=[["heading", 0, 3]])
    second = passage("second", "Database connections are closed.", 1, 0.3, 2.0, headings=["Open", "Files"])
    alone = passage("alone", "Nothing of that.", 7, 0.1)
    told = first, second, alone
    assert of("cosine", *told) == [0.9, 0.3, 0.1]
    assert of("lexical", *told) == [1.0, 0.5, 0.0]
    assert of("covered", *told)[:2] == pytest.approx([1.0, 1.0]), "the heading counts, and stems do"
    assert of("covered", *told)[2] == 0.0
    assert of("in_headings", *told)[0] == 0.0 < of("in_headings", *told)[1] < 1.0
    assert of("pairs", *told) == [0.0, 0.5, 0.0], "of open database, database connection"
    assert of("near_cosine", *told) == [0.3, 0.9, 0.0]
    assert of("near_lexical", *told) == [0.5, 1.0, 0.0]
    assert of("begins_section", *told) == [1.0, 0.0, 0.0]


def test_passages_without_any_metadata_or_score_are_ranked_too() -> None:
    bare = [Passage("a", 1.0, ""), Passage("b", 1.0, QUERY), Passage("c", 1.0, "x", {"headings": 7, "blocks": "no"})]
    assert ranked(QUERY, bare)[0].id == "b"
    assert ranked("", []) == []
    assert ranked("?!", bare)[-1].id == "a"


def test_fifty_passages_are_ranked_within_sixty_milliseconds_of_cpu() -> None:
    text = "The database connection is opened by sqlite3_open_v2() and closed by nobody in particular. " * 12
    told = [replace(passage(str(at), text, at), metadata={"source": "p", "part": at}) for at in range(50)]
    ranked(QUERY, told)  # libraries are loaded
    began = time.process_time()
    for _ in range(3):
        ranked(QUERY, told)
    assert (time.process_time() - began) / 3 < 0.06


def test_what_passages_name_are_identifiers_names_and_headings() -> None:
    text = "The sqlite3_open_v2 of WAL mode, error E4711. See Debian Policy Manual, and then readWrite."
    found = entities(Passage("a", 1.0, text, {"headings": ["Locking", "", 7]}))
    assert found == ["Locking", "sqlite3_open_v2", "WAL", "E4711", "Debian Policy Manual", "readWrite"]


def test_importance_flows_along_links_and_none_is_lost() -> None:
    hub = Passage("hub", 0.5, "The WAL mode.", {"source": "a", "part": 1})
    beside = Passage("beside", 0.0, "Nothing named.", {"source": "a", "part": 2})
    named = Passage("named", 0.0, "In WAL, too.", {"source": "b", "part": 1})
    apart = Passage("apart", 0.0, "Alone.", {"source": "c", "part": 9})
    found = {each.id: each.score for each in ranked_by_links([apart, named, beside, hub])}
    assert found["hub"] > found["beside"] > 0
    assert found["named"] > 0 == found["apart"]
    assert sum(found.values()) < 1.0 + 1e-9
    assert ranked_by_links([]) == []


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of a few kilobytes, with random weights."""
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("cross")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, id2label={0: "relevance"},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder / "bert")
    CrossEncoder(str(folder / "bert"), max_length=64).save(str(folder / "model"))
    return folder / "model"


@pytest.fixture
async def methods(tmp_path: Path, tiny_cross_encoder: Path) -> AsyncIterator[LocalMethods]:
    settings = {"data_dir": str(tmp_path), "cross_encoder": str(tiny_cross_encoder)}
    async with LocalMethods(word_embeddings, vectors, rag, settings=settings) as local:
        await local.call("collections.create", {"name": "pets"})
        names = ["cat", "dog", "cow", "pig", "hen"]
        items = [{"id": name, "text": f"A {name} sleeps."} for name in names]
        await local.call("vectors.upsert", {"collection": "pets", "items": items})
        yield local


async def test_a_cross_encoder_ranks_as_its_own_library_does_and_its_cost_is_told(
    methods: LocalMethods, tiny_cross_encoder: Path
) -> None:
    from sentence_transformers import CrossEncoder

    asked = {"query": "a cat sleeps", "technique": "cross_encoder", "options": {"collection": "pets", "top_k": 5}}
    result = await methods.call("rag.execute", asked | {"technique_params": {"read": 3}})
    found = result["retrieved_documents"]
    pairs = [("a cat sleeps", each["text"]) for each in found[:3]]
    scores = CrossEncoder(str(tiny_cross_encoder), num_labels=1).predict(pairs, show_progress_bar=False)
    assert [each["score"] for each in found[:3]] == pytest.approx([float(each) for each in scores], abs=1e-5)
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    assert len(found) == 5, "what was not read stays behind"
    performance = result["performance"]
    assert 0 < performance["rerank_time_ms"] <= performance["retrieval_time_ms"]


@pytest.mark.parametrize(("content", "code"), [(None, 4001), ("config.json", 3002)])
async def test_a_cross_encoder_that_cannot_be_loaded_is_told_at_the_start(
    tmp_path: Path, content: str | None, code: int
) -> None:
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        (folder / content).write_text("{}")
    settings = {"data_dir": str(tmp_path), "cross_encoder": str(folder)}
    with pytest.raises(RpcError, match=str(folder)) as caught:
        await LocalMethods(word_embeddings, vectors, rag, settings=settings).__aenter__()
    assert caught.value.code == code
