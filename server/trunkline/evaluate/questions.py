"""Question files: NDJSON, one question a line.

::

    {"question": "how do I copy a list?", "relevant": ["faq/programming#copy"], "id": "q1"}

``relevant`` are the documents that answer it, or an object of document and grade (1, 2, ...); ``id`` may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class QuestionError(Exception):
    """A question file that cannot be used; the message names line and member."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the grade of each document that answers it, 1 or more."""

    id: str
    text: str
    relevant: dict[str, int]


def read_questions(lines: Iterable[str]) -> list[Question]:
    """Read a question file; empty lines are passed over.

    Raises:
        QuestionError: a line that is no question, an id given twice, or no question at all.
    """
    questions: dict[str, Question] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        question = _question(line, number)
        if question.id in questions:
            raise QuestionError(f"line {number}: id {question.id!r:.80} is given twice")
        questions[question.id] = question
    if not questions:
        raise QuestionError('there is no question; write lines such as {"question": "...", "relevant": ["..."]}')
    return [*questions.values()]


def _question(line: str, number: int) -> Question:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise QuestionError(f"line {number} is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise QuestionError(f"line {number} is no object")
    text = given.get("question")
    if not isinstance(text, str) or not text.strip():
        raise QuestionError(f"line {number}: question must be a text")
    return Question(str(given.get("id", f"line-{number}")), text, _relevant(given.get("relevant"), number))


def _relevant(given: Any, number: int) -> dict[str, int]:
    if isinstance(given, list) and given and all(isinstance(each, str) for each in given):
        return dict.fromkeys(given, 1)
    if isinstance(given, dict) and given and all(_is_grade(grade) for grade in given.values()):
        return given
    raise QuestionError(
        f'line {number}: relevant must be a list of documents, or an object such as {{"document": 2}} with grades of 1 '
        "or more"
    )


def _is_grade(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
