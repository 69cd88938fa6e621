"""What counts as a good answer in ``bench.answers``, and how paragraphs are taken out of pages."""

from __future__ import annotations

import pytest

pytest.importorskip("lxml")

from bench.answers.pages import without
from bench.answers.questions import Question


def question(*answers: list[str], wrong: tuple[str, ...] = ()) -> Question:
    return Question("q", "c", "sentence", "?", list(answers), list(wrong))


def test_all_strings_of_one_alternative_make_an_answer_right() -> None:
    asked = question(["3.12.0", "4096"], ["new default"], wrong=("1024",))
    assert asked.verdict("since 3.12.0,\n 4096 bytes", True) == "right"
    assert asked.verdict("the NEW\tDefault", True) == "right"
    assert asked.verdict("since 3.12.0", True) == "wrong"
    assert asked.verdict("the new default is 1024", True) == "wrong"
    assert asked.verdict("new default" + " word" * 79, True) == "wrong", "more than 80 words"
    assert asked.verdict("Nothing answers this", False) == "missed"


def test_an_unanswerable_question_is_right_without_an_answer_alone() -> None:
    assert question().verdict("Nothing answers this", False) == "right"
    assert question().verdict("4096", True) == "wrong"


def test_the_smallest_block_with_a_text_goes() -> None:
    page = b"<html><body><div><p>One here.</p><p>Two  <b>here</b>.</p><ul><li>Three</li></ul></div></body></html>"
    left = without(page, ["two here", "Three"]).decode()
    assert "One here." in left
    assert "Two" not in left
    assert "Three" not in left
    with pytest.raises(ValueError, match="0 blocks"):
        without(page, ["four"])
    with pytest.raises(ValueError, match="2 blocks"):
        without(page, ["here"])
