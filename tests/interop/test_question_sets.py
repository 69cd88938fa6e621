"""The question sets that ``bench.retrieval`` asks: what is read from Debian's documentation packages."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from bench.corpora import CorpusMissing, QuestionSet, debian_faq, python_faq


@pytest.mark.parametrize(
    ("read", "question", "answer"),
    [
        (python_faq, "How fast are exceptions?", "raised"),
        (debian_faq, "What is a Debian package?", "files"),
    ],
    ids=["python", "debian"],
)
def test_a_question_is_held_out_of_the_text_that_answers_it(
    read: Callable[[], QuestionSet], question: str, answer: str
) -> None:
    try:
        chosen = read()
    except CorpusMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    texts = {section.id: section.text for section in chosen.sections}
    assert len(chosen.questions) > 100
    assert len(texts) == len(chosen.sections) > 5 * len(chosen.questions)
    assert all(asked not in texts[section] for asked, section in chosen.questions)
    (section,) = (section for asked, section in chosen.questions if asked == question)
    assert answer in texts[section]
