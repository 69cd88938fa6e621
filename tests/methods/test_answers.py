"""Extracted answers: the unit that answers, at its place, in bounds, in the languages people write; or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")
pytest.importorskip("sentencex")

from tests.methods.packs import word_embeddings  # noqa: E402
from trunkline.methods import rag, vectors  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline.methods.rag.evidence import Asked, Seen, confidence, proper_names, weighed  # noqa: E402
from trunkline.methods.rag.said import _NOTHING, nothing_answers, still_filling  # noqa: E402

ENGLISH_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""By its name, the model that knows English alone."""

TEXTS = {
    "zh": "数据库文件保存在磁盘上。备份可以随时进行。",
    "ja": "データベースはディスクに保存されます。バックアップはいつでもできます。",
    "de": "Die Datenbank liegt auf der Festplatte. Eine Sicherung ist jederzeit möglich.",
    "ru": "База данных хранится на диске. Резервную копию можно сделать в любое время.",
    "el": "Η βάση δεδομένων αποθηκεύεται στον δίσκο. Το αντίγραφο γίνεται οποτεδήποτε.",
}
QUESTIONS = {
    "zh": ("备份可以进行吗？", "备份可以随时进行。"),
    "ja": ("バックアップはできますか？", "バックアップはいつでもできます。"),
    "de": ("Wann ist eine Sicherung möglich?", "Eine Sicherung ist jederzeit möglich."),
    "ru": ("Можно ли сделать резервную копию?", "Резервную копию можно сделать в любое время."),
    "el": ("Πότε γίνεται το αντίγραφο;", "Το αντίγραφο γίνεται οποτεδήποτε."),
}
UNANSWERED = {
    "zh": "天气怎么样？", "ja": "天気はどうですか？", "de": "Wie wird das Wetter morgen in Wien?",
    "ru": "Какая завтра будет погода?", "el": "Τι καιρό θα κάνει αύριο;",
}  # fmt: skip


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    settings = {"data_dir": str(tmp_path), "model": ENGLISH_MODEL}
    async with LocalMethods(word_embeddings, vectors, rag, settings=settings) as local:
        for language, text in TEXTS.items():
            await local.call("collections.create", {"name": language})
            await local.call("vectors.upsert", {"collection": language, "items": [{"id": "a", "text": text}]})
        yield local


async def ask(methods: LocalMethods, query: str, collection: str, **params: Any) -> tuple[dict[str, Any], list[Any]]:
    stream = methods.stream("rag.stream", {"query": query, "options": {"collection": collection}, **params})
    parts = [chunk.data async for chunk in stream if chunk.type == "partial_answer"]
    return stream.result, parts


@pytest.mark.parametrize("language", list(TEXTS))
async def test_questions_are_answered_by_their_words_where_the_model_knows_none(
    methods: LocalMethods, language: str
) -> None:
    query, expected = QUESTIONS[language]
    result, parts = await ask(methods, query, language)
    assert result["metadata"]["found"], result
    assert result["answer"].startswith(f"{expected} [1]")
    source = parts[0]["source"]
    assert TEXTS[language][source["start"] : source["end"]] == expected


@pytest.mark.parametrize("language", list(TEXTS))
async def test_nothing_is_answered_in_the_language_of_the_question(methods: LocalMethods, language: str) -> None:
    result, _ = await ask(methods, UNANSWERED[language], language)
    assert (result["metadata"]["found"], result["answer"]) == (False, nothing_answers(language, language))


async def test_the_language_of_the_call_comes_first(methods: LocalMethods) -> None:
    result, _ = await ask(methods, "What is a quark?", "de", language="hr")
    assert result["answer"] == "Ništa u zbirci „de” ne odgovara na ovo."
    result, _ = await ask(methods, "What is a quark?", "de", language="xx-YY")
    assert result["answer"] == 'Nothing in the collection "de" answers this.'


def test_each_language_says_all_of_it() -> None:
    for language in _NOTHING:
        assert "pets" in nothing_answers("pets", language)
        said = still_filling("pets", 40, 79, language)
        assert all(each in said for each in ("pets", "40", "79")), language
    assert still_filling("a", 40, 79, "en") != still_filling("a", 40, 79, "el")


async def test_units_come_with_what_announces_them_and_fit(methods: LocalMethods) -> None:
    text = "Run this to purge a package:\n\napt purge nginx\n\nOther words of a package stand here and there."
    blocks = [["paragraph", 0, 28], ["code", 30, 45], ["paragraph", 47, len(text)]]
    await methods.call("collections.create", {"name": "code"})
    item = {"id": "a", "text": text, "metadata": {"blocks": blocks, "headings": ["Packages"]}}
    await methods.call("vectors.upsert", {"collection": "code", "items": [item]})
    for words, quoted in ((80, True), (10, False)):
        given = {"max_words": words, "min_confidence": 0}
        result, parts = await ask(methods, "how do I purge a package?", "code", technique_params=given)
        assert result["answer"].startswith("Run this to purge a package: [1]\n\n    apt purge nginx")
        assert (parts[0]["source"]["kind"], parts[0]["source"]["lead"]) == ("code", [0, 28])
        assert ("Other words" in result["answer"]) == quoted


def seen(text: str, cosine: float, passage: int = 1, **members: Any) -> Seen:
    stems = frozenset(text.lower().split())
    return Seen(passage, text, False, cosine, stems, members.get("near", cosine), members.get("words", stems), 10)


def test_what_is_asked_for_counts() -> None:
    units = [seen("the port is open", 0.5, 1), seen("the port is 4949", 0.45, 2)]
    asked = Asked.of("which port is it?", frozenset({"port"}))
    assert [each.row for each in weighed(asked, units, by_meaning=True)] == [1, 0]
    other = Asked.of("is it open?", frozenset({"open"}))
    assert [each.row for each in weighed(other, units, by_meaning=True)] == [0, 1]


def test_the_neighbour_of_what_is_most_alike_counts() -> None:
    units = [seen("alike", 0.9, 1, near=0.5), seen("beside", 0.3, 1, near=0.5), seen("elsewhere", 0.3, 2, near=0.5)]
    rows = [each.row for each in weighed(Asked.of("?", frozenset()), units, by_meaning=True)]
    assert rows == [0, 1, 2]


def test_names_that_are_nowhere_make_an_answer_unlikely() -> None:
    units = [seen("how to load a table", 0.6)]
    asked = Asked.of("How do I load it into Grafana?", frozenset({"load", "grafana"}))
    ranked = weighed(asked, units, by_meaning=True)
    known, unknown = (confidence(ranked, frozenset(names), units, by_meaning=True) for names in ({"load"}, {"grafana"}))
    assert unknown < known
    assert confidence([], frozenset(), [], by_meaning=True) == 0
    assert proper_names("How do I load 3 tables into Grafana? See E4711.") == "3 Grafana E4711"


async def test_documents_that_are_being_processed_are_told(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from trunkline.methods import documents
    from trunkline.methods.documents.filling import Fillings

    settings = {"data_dir": str(tmp_path)}
    async with LocalMethods(word_embeddings, vectors, documents, rag, settings=settings) as local:
        await local.call("collections.create", {"name": "pets"})
        with Fillings(tmp_path / "documents").begun("default", "pets") as filling:
            filling.tell(40, 79)
            result, _ = await ask(local, "what does a cat do?", "pets")
        assert result["metadata"]["filling"] == {"calls": 1, "documents_done": 40, "documents_total": 79}
        assert 'answers this.\n\nThe collection "pets" is still being indexed: 40 of 79.' in result["answer"]
        result, _ = await ask(local, "what does a cat do?", "pets")
        assert "filling" not in result["metadata"]
