"""Which language a text is in, its sentences, and its words, in languages people write."""

from __future__ import annotations

import unicodedata

import pytest

for library in ("sentencex", "py3langid", "regex", "Stemmer", "bm25s"):
    pytest.importorskip(library)

from trunkline.methods.languages import language_of, question_stems, sentence_spans, stems, words  # noqa: E402

SENTENCES = {
    "de": ["Das gilt z.B. für den 3. Mai.", "Dr. Müller hat es geprüft.", "Wirklich?"],
    "ru": ["Служба запускается вручную.", "Перезапуск занимает минуту."],
    "el": ["Η υπηρεσία ξεκινά αυτόματα.", "Μπορεί να σταματήσει;", "Ναι."],
    "zh": ["数据库文件保存在磁盘上。", "你可以随时备份它！", "真的吗？"],
    "ja": ["データベースはファイルに保存されます。", "いつでもバックアップできます。"],
    "hr": ["Usluga se npr. pokreće ručno.", "Ponovno pokretanje traje minutu."],
    "en": ["Use 3.7.11 or later, e.g. the packaged one.", "Call sqlite3_open_v2() first."],
}


@pytest.mark.parametrize("language", list(SENTENCES))
def test_sentences_are_told_by_the_rules_of_their_language(language: str) -> None:
    between = "" if language in ("zh", "ja") else " "
    text = between.join(SENTENCES[language])
    assert [text[start:end] for start, end in sentence_spans(text, language)] == SENTENCES[language]


def test_offsets_count_characters_whatever_they_weigh() -> None:
    text = "  Ein 😀 Satz. \n\n Größe 𝒳! "
    assert [text[start:end] for start, end in sentence_spans(text, "de")] == ["Ein 😀 Satz.", "Größe 𝒳!"]


def test_long_texts_are_cut_between_sentences_and_surrogates_are_no_obstacle() -> None:
    text = "This is sentence number one of many. " * 1_000 + "\ud800 ends it."
    spans = sentence_spans(text)
    assert [text[start:end] for start, end in spans[:-1]] == ["This is sentence number one of many."] * 1_000
    assert text[slice(*spans[-1])] == "\ud800 ends it."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wie starte ich den Dienst neu?", "de"),
        ("Kako ponovno pokrenuti ovu uslugu nakon pogreške?", "hr"),
        ("Quelle est la taille maximale?", "fr"),
        ("Как перезапустить службу?", "ru"),
        ("Як перезапустити цю службу?", "uk"),
        ("Πώς ξεκινά η υπηρεσία;", "el"),
        ("如何备份 SQLite 数据库？", "zh"),
        ("SQLite データベースの備え方", "ja"),
        ("서비스를 다시 시작", "ko"),
        ("how do I reset it?", "en"),
        ("reset sqlite journal mode", "en"),
        ("Does VACUUM reclaim disk space?", "en"),
        ("E4711 12", "en"),
        ("", "en"),
    ],
)
def test_the_language_of_a_question_is_told(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["Größe", "Ελλάδα", "й", "が", "한국어"])
def test_composed_and_decomposed_letters_are_the_same_word(text: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert words(decomposed) == words(text)


def test_words_inside_a_run_without_spaces_are_found() -> None:
    run = words("数据库文件保存在磁盘上")
    assert set(words("磁盘")) <= set(run)
    assert not set(words("网络")) & set(run)
    assert words("SQLite数据库") == ["sqlite", "数据", "据库"]
    assert words("猫") == ["猫"]


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("de", "Dateien", "Datei"),
        ("ru", "служба", "службу"),
        ("el", "δίσκος", "δίσκου"),
        ("hr", "usluga", "uslugu"),
    ],
)
def test_forms_of_a_word_have_one_stem(language: str, one: str, other: str) -> None:
    assert stems(one, language) == stems(other, language)


def test_the_grammar_of_a_question_is_not_what_it_is_about() -> None:
    assert question_stems("备份可以进行吗？", "zh") == ["备份", "份可", "可以", "以进", "进行"]
    assert question_stems("猫はどこですか", "ja") == stems("猫はどこですか", "ja")
    assert question_stems("東京のバス", "ja") == ["東京", "バス"]
    assert question_stems("Where is the file?", "en") == ["file"]


def test_words_that_say_nothing_are_left_out_where_they_are_known() -> None:
    assert stems("die Größe der Dateien", "de-AT") == stems("Größe Dateien", "de")
    assert stems("the size of a file", "xx") == ["the", "size", "of", "a", "file"]
