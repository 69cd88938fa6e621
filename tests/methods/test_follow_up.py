"""Follow-ups, rewritten with a language model, and without one by terms of what was asked before."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline import Context
from trunkline.methods.rag.follow_up import MAX_TERMS, TERMS, Question, standing_alone, terms_of, understood
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.mark.parametrize(
    ("questions", "alone"),
    [
        (["How do I rebase a git branch?", "and how do I undo it?"], "and how do I undo it? (rebase git branch)"),
        (["What does `functools.lru_cache` do?", "How do I clear it?"], "How do I clear it? (functools.lru_cache)"),
        (["What is a decorator?", "what about class methods?"], "what about class methods? (decorator)"),
        (["What is a decorator?", "Why?"], "Why? (decorator)"),
        (["What is a decorator?", "How do I undo it?", "And that?"], "And that? (decorator undo)"),
        (["How do I sort a list?", "What is a decorator?", "Why?"], "Why? (decorator)"),
    ],
)
def test_a_follow_up_gets_the_terms_of_what_was_asked(questions: list[str], alone: str) -> None:
    assert standing_alone(questions) == alone


@pytest.mark.parametrize(
    "question",
    [
        "What is recursion?",
        "How do I open a file and read it?",
        "Is there a function that returns a dict?",
        "How do I undo a git rebase?",
    ],
)
def test_a_question_that_stands_alone_is_left_as_it_is(question: str) -> None:
    assert standing_alone(["How do I sort a list?", question]) == question


def test_terms_are_few_and_named_once() -> None:
    assert terms_of('the list, the List, "a quoted thing" and C++') == ["a quoted thing", "list", "C++"]
    assert len(terms_of(" ".join(f"w{number}" for number in range(50)))) == MAX_TERMS


class _Model:
    name = "small-model"

    def __init__(self, said: str | RpcError) -> None:
        self._said = said
        self.asked: list[str] = []

    async def complete(self, ctx: Context, instructions: str, text: str, max_tokens: int) -> str:
        self.asked.append(text)
        if isinstance(self._said, RpcError):
            raise self._said
        return self._said


NO_CONTEXT: Any = None
HISTORY: Any = [{"role": "user", "content": "What is a decorator?"}, {"role": "assistant", "content": "A wrapper."}]


async def test_a_language_model_rewrites_it() -> None:
    model = _Model("How do I undo a decorator?")
    found = await understood("How do I undo it?", HISTORY, NO_CONTEXT, model)
    assert found.query == "How do I undo a decorator?"
    assert found.asked == "How do I undo it?"
    assert found.details == {"rewritten_query": found.query, "rewritten_by": "small-model"}
    assert "A wrapper." in model.asked[0]


@pytest.mark.parametrize(
    "said", ["", "x" * 20_001, "two\nlines", RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, "no"),
             RpcError(ErrorCode.COMMUNICATION_TIMEOUT, "silent")],
)  # fmt: skip
async def test_without_a_word_of_the_model_it_is_done_by_terms(said: str | RpcError) -> None:
    found = await understood("How do I undo it?", HISTORY, NO_CONTEXT, _Model(said))
    assert found.details == {"rewritten_query": "How do I undo it? (decorator)", "rewritten_by": TERMS}


@pytest.mark.parametrize("history", [[], [{"role": "assistant", "content": "Ask me something."}]])
async def test_without_a_question_before_nothing_is_rewritten(history: Any) -> None:
    model = _Model("something else")
    assert await understood("How do I undo it?", history, NO_CONTEXT, model) == Question("How do I undo it?")
    assert not model.asked


async def test_what_the_model_repeats_is_no_other_question() -> None:
    assert await understood("What is it?", HISTORY, NO_CONTEXT, _Model("What is it?")) == Question("What is it?")
