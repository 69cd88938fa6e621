"""``trunkline eval`` against a hub with collections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("faiss")
pytest.importorskip("ir_measures")

from tests.support.command import trunkline, trunkline_process
from tests.support.hub import RunningHub, ready_hub

ROOT = Path(__file__).parents[2]
TEXTS = {"cat": "A cat sleeps all day", "dog": "A dog barks at strangers", "oven": "Bread is baked in an oven"}
QUESTIONS = [
    {"id": "q1", "question": "who sleeps all day?", "relevant": ["pets/cat"]},
    {"id": "q2", "question": "what barks at strangers", "relevant": {"pets/dog": 2, "pets/cat": 1}},
]


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    methods = ("tests.methods.packs.word_embeddings", "trunkline.methods.vectors", "trunkline.methods.rag")
    with ready_hub(*methods, cwd=ROOT) as running:
        url = ["--url", running.url]
        made = trunkline("call", "collections.create", '{"name": "pets"}', *url)
        assert made.returncode == 0, made
        items = [
            {"id": f"{each}@0", "text": text, "metadata": {"source": f"pets/{each}"}} for each, text in TEXTS.items()
        ]
        stored = trunkline("call", "vectors.upsert", json.dumps({"collection": "pets", "items": items}), *url)
        assert stored.returncode == 0, stored
        yield running


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.ndjson"
    path.write_text("\n".join(map(json.dumps, QUESTIONS)))
    return path


def test_it_prints_a_table_of_the_techniques(hub: RunningHub, questions: Path) -> None:
    done = trunkline_process("eval", str(questions), "--collection", "pets", "--url", hub.url)
    assert done.returncode == 0, done.stderr
    for expected in ("2 questions", "dense", "lexical", "hybrid", "nDCG@10", "95 %", "R@5", "RR", "nDCG@10 less dense"):
        assert expected in done.stdout


def test_json_has_each_questions_measures(hub: RunningHub, questions: Path) -> None:
    done = trunkline(
        "eval", str(questions), "--collection", "pets", "--technique", "lexical", "--json", "--url", hub.url
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["questions"] == ["q1", "q2"]
    assert [*said["techniques"]] == ["lexical"]
    lexical = said["techniques"]["lexical"]
    assert lexical["each"]["RR"] == [1.0, 1.0]
    assert lexical["interval"]["low"] <= lexical["interval"]["mean"] <= lexical["interval"]["high"] == 1.0


def test_techniques_are_compared_with_the_baseline_that_is_named(hub: RunningHub, questions: Path) -> None:
    techniques = ("--technique", "lexical", "--technique", "basic", "--baseline", "basic")
    done = trunkline("eval", str(questions), "--collection", "pets", *techniques, "--json", "--url", hub.url)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["baseline"] == "basic"
    each = {name: found["each"]["nDCG@10"] for name, found in said["techniques"].items()}
    less = [a - b for a, b in zip(each["lexical"], each["basic"], strict=True)]
    assert said["techniques"]["lexical"]["difference"]["mean"] == pytest.approx(sum(less) / 2)
    assert said["techniques"]["basic"]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_documents_may_be_items(hub: RunningHub, tmp_path: Path) -> None:
    path = tmp_path / "by-id.ndjson"
    path.write_text('{"question": "bread", "relevant": ["oven@0"]}')
    done = trunkline("eval", str(path), "--collection", "pets", "--by", "id", "--json", "--url", hub.url)
    assert json.loads(done.stdout)["techniques"]["dense"]["RR"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--collection", "pets", "--technique", "magic"), 1, "no technique 'magic'"),
        (("--collection", "pets", "--baseline", "rrf"), 2, "rrf is not among the techniques"),
        (("--collection", "nowhere"), 1, "there is no collection 'nowhere'"),
    ],
    ids=["technique", "baseline", "collection"],
)
def test_what_cannot_be_is_said(
    hub: RunningHub, questions: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = trunkline("eval", str(questions), *arguments, "--url", hub.url)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_question_file_is_named_with_its_line(hub: RunningHub, tmp_path: Path) -> None:
    path = tmp_path / "wrong.ndjson"
    path.write_text('{"question": "a"}')
    done = trunkline("eval", str(path), "--collection", "pets", "--url", hub.url)
    assert done.returncode == 2
    assert "wrong.ndjson: line 1: relevant" in done.stderr
