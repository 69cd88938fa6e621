"""Follow-ups, such as "and how do I undo it?": rewritten to questions that say by themselves what they are about.

With a language model, that rewrites them. Without one, a question that refers to something, in English, gets the terms
of what was asked before; others are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from trunkline import Context, RpcError
from trunkline.methods.rag.signatures import Turn

TERMS: Final = "terms"
"""In place of a model's name, where terms of what was asked before were added."""

MAX_TURNS: Final = 6
"""Messages before the question that a language model is shown."""

MAX_SHOWN: Final = 1_000
"""Characters of each."""

MAX_QUERY: Final = 20_000
MAX_TERMS: Final = 8
FEW_TERMS: Final = 2
"""Terms in front of a pronoun, or of a question that goes on, that leave open what it is about."""

INSTRUCTIONS: Final = (
    "Rewrite the last question so that it can be understood without the conversation: put in what its words refer to, "
    "in its own language. If it needs nothing, repeat it. Answer with the question only."
)

REFERRING: Final = re.compile(
    r"\b(it|its|itself|this|these|those|they|them|their|theirs|he|him|his|she|her|hers|the (?:former|latter))\b"
    r"|\bthat(?=\s*(?:[?.!,;]|$))",
    re.IGNORECASE,
)
"""Words that stand for something that was named before; of "that", where it is no conjunction."""

GOING_ON: Final = re.compile(r"\s*(and|but|or|so|also|what about|how about|then|why|why not)\b", re.IGNORECASE)
"""The beginning of a question that goes on from the one before."""

_WORDS: Final = (
    "a about above after again against all also am an and another any are as at be because been before being "
    "below between both but by can cannot could did do does doing don down during each else ever few for former "
    "from further get gets give got had has have having he her here hers him his how i if in instead into is isn "
    "it its itself just latter let like me mean means more most much must my no nor not now of off ok okay on "
    "once one ones only or other others our out over own please quite rather really s same say she should show so "
    "some still such t tell than thank thanks that the their theirs them then there these they this those through "
    "to too under until up us use used using very was way we well were what when where whether which while who "
    "whom whose why will with without would yes you your"
)
FUNCTION_WORDS: Final = frozenset(_WORDS.split())
"""English words that name nothing."""

_WORD: Final = re.compile(r"[^\W_][\w.+#/-]*[\w+#]|[^\W_]|\w+")
_QUOTED: Final = re.compile(r"[`\"“]([^`\"”\n]{1,80})[`\"”]")


class Model(Protocol):
    """A language model that rewrites questions."""

    @property
    def name(self) -> str:
        """The name of the model."""

    async def complete(self, ctx: Context, instructions: str, text: str, max_tokens: int) -> str:
        """What the model answers to a text."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question on its way into a technique.

    Attributes:
        query: what is searched and answered.
        asked: the question as it was asked, where that is another one.
        details: of the result's ``metadata``: what it was rewritten to, and by whom.
    """

    query: str
    asked: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


async def understood(query: str, history: Sequence[Turn], ctx: Context, model: Model | None) -> Question:
    """The question that a query means behind what was said before.

    A model that fails, or says nothing of use, is done without; ``rewritten_by`` tells who has rewritten it.
    """
    if not any(each["role"] == "user" for each in history):
        return Question(query)
    if model is not None and (said := await _rewritten_by(model, query, history, ctx)):
        return _question(query, said, model.name)
    asked = [each["content"] for each in history if each["role"] == "user"]
    return _question(query, standing_alone([*asked, query]), TERMS)


def _question(query: str, rewritten: str, by: str) -> Question:
    if rewritten == query:
        return Question(query)
    return Question(rewritten, query, {"rewritten_query": rewritten, "rewritten_by": by})


async def _rewritten_by(model: Model, query: str, history: Sequence[Turn], ctx: Context) -> str:
    turns = [f"{each['role']}: {each['content'][:MAX_SHOWN]}" for each in history[-MAX_TURNS:]]
    asked = "\n".join([*turns, f"user: {query}"])
    try:
        said = await model.complete(ctx, INSTRUCTIONS, asked, max_tokens=256)
    except RpcError:  # of the endpoint; the answer itself will say so, if it does not get over it
        return ""
    said = said.strip().strip('"')
    return said if 0 < len(said) <= MAX_QUERY and "\n" not in said else ""


# --- without a model ---


def standing_alone(questions: Sequence[str]) -> str:
    """The last of these questions, with terms of those before it where it refers to them."""
    carried: list[str] = []
    for question in questions[:-1]:
        terms = terms_of(question)
        carried = _merged(terms, carried) if refers(question) else terms or carried
    last = questions[-1]
    if not refers(last) or not carried:
        return last
    own = {term.casefold() for term in terms_of(last)}
    added = [term for term in carried if term.casefold() not in own]
    return f"{last.rstrip()} ({' '.join(added)})" if added else last


def refers(question: str) -> bool:
    """Whether a question is about something that it does not name.

    What a pronoun stands for may be named in front of it: "How do I open a file and read it?"
    """
    terms = terms_of(question)
    if not terms or (len(terms) <= FEW_TERMS and GOING_ON.match(question)):
        return True
    return any(len(terms_of(question[: found.start()])) <= FEW_TERMS for found in REFERRING.finditer(question))


def terms_of(question: str) -> list[str]:
    """What a question names, in its order: what is quoted, and the words that are no function words."""
    found: dict[str, str] = {}
    for term in [*_QUOTED.findall(question), *_WORD.findall(_QUOTED.sub(" ", question))]:
        plain = term.strip().casefold()
        if plain and plain not in FUNCTION_WORDS:
            found.setdefault(plain, term.strip())
    return list(found.values())[:MAX_TERMS]


def _merged(terms: list[str], carried: list[str]) -> list[str]:
    known = {term.casefold() for term in carried}
    return [*carried, *(term for term in terms if term.casefold() not in known)][:MAX_TERMS]
