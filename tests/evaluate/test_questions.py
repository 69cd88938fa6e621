"""Question files: what is read, and what is refused and where."""

from __future__ import annotations

import pytest

from trunkline.evaluate.questions import Question, QuestionError, read_questions


def test_questions_are_read_in_order() -> None:
    lines = ['{"question": "a?", "relevant": ["x", "y"]}', "", '{"id": 7, "question": "b?", "relevant": {"z": 2}}']
    assert read_questions(lines) == [
        Question("line-1", "a?", {"x": 1, "y": 1}),
        Question("7", "b?", {"z": 2}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is no JSON"),
        ("[]", "line 1 is no object"),
        ('{"relevant": ["x"]}', "line 1: question must be a text"),
        ('{"question": " ", "relevant": ["x"]}', "line 1: question must be a text"),
        ('{"question": "a"}', "line 1: relevant must be"),
        ('{"question": "a", "relevant": []}', "line 1: relevant must be"),
        ('{"question": "a", "relevant": [1]}', "line 1: relevant must be"),
        ('{"question": "a", "relevant": {"x": 0}}', "line 1: relevant must be"),
        ('{"question": "a", "relevant": {"x": true}}', "line 1: relevant must be"),
        ("", "there is no question"),
    ],
    ids=str,
)
def test_what_is_no_question_is_refused_by_line(line: str, message: str) -> None:
    with pytest.raises(QuestionError, match=message):
        read_questions([line])


def test_an_id_is_given_once() -> None:
    line = '{"id": "q", "question": "a", "relevant": ["x"]}'
    with pytest.raises(QuestionError, match="line 2: id 'q' is given twice"):
        read_questions([line, line])
