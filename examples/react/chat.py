"""A chat about Python, answered from the language reference that every CPython has: no model, no network."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from trunkline import Context, RpcError, method

PASSAGE_WORDS = 100
OF_QUESTIONS = "a an and are can do does explain how i in is it me of the to use what when why work you"
SECONDS_A_WORD = 0.02
"""The pace of a model that writes; the reference alone would be here at once."""


@dataclass(frozen=True)
class Passage:
    """Some paragraphs of a topic."""

    topic: str
    text: str
    words: frozenset[str]


def words_of(text: str) -> frozenset[str]:
    """Its words, plurals as singulars."""
    return frozenset(word.removesuffix("s") for word in re.findall(r"\w+", text.lower()))


def passages() -> Iterator[Passage]:
    """All of the reference, in passages of whole paragraphs."""
    for topic, text in topics.items():
        parts = [""]
        flowing = re.sub(r'^(\w.*)\n(?=[\w"(])', r"\1 ", text.strip(), flags=re.MULTILINE)
        for paragraph in flowing.split("\n\n"):
            if len(parts[-1].split()) >= PASSAGE_WORDS:
                parts.append("")
            parts[-1] += f"{paragraph}\n\n"
        if len(parts) > 1 and len(parts[-1].split()) < PASSAGE_WORDS:
            parts[-2:] = ["".join(parts[-2:])]
        yield from (Passage(topic, part.strip(), words_of(f"{topic} {part}")) for part in parts)


PASSAGES = list(passages())
FOUND_IN = Counter(word for passage in PASSAGES for word in passage.words)


def best_passage(question: str) -> Passage | None:
    """The passage with most of what a question is about, or None where the reference has none of its words."""
    about = words_of(question) - words_of(OF_QUESTIONS)
    asked = {word: math.log(len(PASSAGES) / FOUND_IN[word]) for word in about if word in FOUND_IN}

    def score(passage: Passage) -> float:
        shared = sum(weight for word, weight in asked.items() if word in passage.words)
        return shared + 2 * (passage.topic.removesuffix("s") in asked)

    return max(PASSAGES, key=score) if asked else None


class Answered(TypedDict):
    """What follows an answer."""

    topic: str
    words: int


@method("chat.answer", result=Answered, errors={404: None})
async def answer(question: Annotated[str, Field(min_length=1, max_length=500)], ctx: Context) -> AsyncIterator[str]:
    """What the Python reference says about a question, word by word; each question is an event of chat.questions."""
    await ctx.publish("chat.questions", {"question": question})
    passage = best_passage(question)
    if passage is None:
        raise RpcError(404, "The Python reference has none of these words. Ask about lambda, with, classes ...")
    words = re.findall(r"\S+\s*", passage.text)
    for word in words:
        yield word
        await asyncio.sleep(SECONDS_A_WORD)
    ctx.set_result({"topic": passage.topic, "words": len(words)})
