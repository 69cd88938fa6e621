"""``--tenant`` of ``trunkline ingest`` and ``trunkline eval``: an operator stores and asks in another tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("faiss")
pytest.importorskip("ir_measures")
pytest.importorskip("trafilatura")

from tests.hub.tenants import write_tokens
from tests.support.command import trunkline, trunkline_process
from tests.support.hub import RunningHub, ready_hub

ROOT = Path(__file__).parents[2]
METHODS = ("tests.methods.packs.word_embeddings", "trunkline.methods.vectors", "trunkline.methods.documents")
ENTRIES = {
    "operator": 'name = "operator"\nroles = ["act_as"]',
    "nobody": 'name = "nobody"',
    "acme": 'name = "ann"\ntenant = "acme"',
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    file = write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.toml", ENTRIES)
    with ready_hub(*METHODS, cwd=ROOT, env={"TRUNKLINE_TOKENS_FILE": str(file)}) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    books = tmp_path / "books"
    books.mkdir()
    (books / "cat.md").write_text("A cat sleeps all day")
    (books / "dog.md").write_text("A dog barks at strangers")
    return books


def sources(hub: RunningHub, token: str, collection: str) -> Any:
    params = json.dumps({"collection": collection, "text": "a", "top_k": 10})
    done = trunkline("call", "vectors.search", params, "--url", hub.url, "--token", token)
    if done.returncode:
        return done.stderr
    return sorted(match["metadata"]["source"] for match in json.loads(done.stdout)["matches"])


def test_what_is_ingested_is_the_tenants_and_evaluated_in_it(hub: RunningHub, folder: Path, tmp_path: Path) -> None:
    where = ("--url", hub.url, "--token", "operator", "--tenant", "acme")
    done = trunkline_process("ingest", "books", "--collection", "pets", *where, cwd=folder.parent)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert sources(hub, "acme", "pets") == ["books/cat.md", "books/dog.md"]
    assert "no collection" in sources(hub, "operator", "pets")
    questions = tmp_path / "questions.ndjson"
    questions.write_text(json.dumps({"id": "q", "question": "a cat sleeps all day", "relevant": ["books/cat.md"]}))
    asked = ("eval", str(questions), "--collection", "pets", "--technique", "dense", "--json")
    said = trunkline(*asked, *where)
    assert said.returncode == 0, said
    assert json.loads(said.stdout)["techniques"]["dense"]["RR"] == 1.0
    other = trunkline(*asked, "--url", hub.url, "--token", "operator")
    assert other.returncode != 0
    assert "pets" in other.stderr


@pytest.mark.parametrize("command", ["ingest", "eval"])
def test_it_takes_the_right_to_act_for_others(hub: RunningHub, folder: Path, command: str, tmp_path: Path) -> None:
    questions = tmp_path / "questions.ndjson"
    questions.write_text(json.dumps({"id": "q", "question": "a", "relevant": ["b"]}))
    what = "books" if command == "ingest" else str(questions)
    where = ("--url", hub.url, "--token", "nobody", "--tenant", "acme")
    done = trunkline_process(command, what, "--collection", "theirs", *where, cwd=folder.parent)
    assert done.returncode != 0
    assert "act_as" in done.stderr
    assert "theirs" in sources(hub, "acme", "theirs")
