"""Finding by words in the scripts and forms that people write: runs without spaces, accents, identifiers, stems."""

from __future__ import annotations

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("regex")

from trunkline.methods.vectors.lexical import LexicalIndex, language_of_texts, words

TEXTS = {
    "open": "Call sqlite3_open_v2() to open a database connection.",
    "glob": "The pattern *.txt matches every text file.",
    "code": "Error E4711 means that the oven is too hot.",
    "camel": "Use readWriteLock where many readers wait.",
    "chinese": "数据库连接在事务结束时关闭。",
    "japanese": "トランザクションはデータベースを閉じます。",
    "nfc": "Das Caf\u00e9 liegt in Z\u00fcrich.",
    "russian": "Транзакция завершена без ошибок.",
    "greek": "Η βάση δεδομένων είναι κλειστή.",
    "other": "Nothing of this kind is written here, it fills the index.",
}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("sqlite3_open_v2", "open"),
        ("open v2", "open"),
        ("sqlite3_open_v2()", "open"),
        ("*.txt", "glob"),
        ("E4711", "code"),
        ("e4711", "code"),
        ("readWriteLock", "camel"),
        ("lock", "camel"),
        ("事务", "chinese"),
        ("数据库", "chinese"),
        ("データベース", "japanese"),
        ("cafe\u0301", "nfc"),
        ("ZU\u0308RICH", "nfc"),
        ("ТРАНЗАКЦИЯ", "russian"),
        ("ΒΆΣΗ", "greek"),
        ("databases connections", "open"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["in the table", "come since"])
def test_what_people_look_for_is_found(query: str, wanted: str, late: bool) -> None:
    index = LexicalIndex({} if late else TEXTS)
    if late:
        index.put(TEXTS)
    assert [id for id, _ in index.search(query).top(1)] == [wanted]


def test_stems_are_those_of_the_language_of_the_texts() -> None:
    german = {
        "a": "Die Datenbanken wurden nach der Wiederherstellung geschlossen und wieder geöffnet.",
        "b": "Das Gerät wird über den Schalter an der Rückseite des Gehäuses eingeschaltet.",
        "c": "Der Vertrag endet mit der Kündigung durch eine der beiden Parteien.",
    }
    assert language_of_texts(german.values()) == "de"
    index = LexicalIndex(german)
    assert [id for id, _ in index.search("Datenbank").top(5)] == ["a"]
    assert [id for id, _ in index.search("Schaltern").top(5)] == ["b"]
    assert index.search("der die das").top(5) == []


def test_parts_of_identifiers_stand_beside_the_whole() -> None:
    (found,) = words(["sqlite3_open_v2 readHTTPWrite x_"], "en")
    for expected in ("sqlite3_open_v2", "sqlite3", "v2", "read", "http", "write"):
        assert expected in found
