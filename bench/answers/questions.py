"""The question sets, and what counts as a good answer (the rules are in README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

FOLDER: Final = Path(__file__).parent
MAX_WORDS: Final = 80
SETS: Final = ("tuning", "held_out")

Verdict = Literal["right", "wrong", "missed"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question; without ``answers`` it is one that the corpus does not answer.

    Attributes:
        answers: alternatives, each a list of strings that stand in a good answer.
        wrong: strings that make an answer wrong.
    """

    id: str
    corpus: str
    kind: str
    text: str
    answers: list[list[str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)

    def verdict(self, answer: str, found: bool) -> Verdict:
        """How an answer counts."""
        if not self.answers:
            return "wrong" if found else "right"
        if not found:
            return "missed"
        said = folded(answer)
        good = any(all(folded(each) in said for each in alternative) for alternative in self.answers)
        bad = any(folded(each) in said for each in self.wrong)
        return "right" if good and not bad and len(said.split()) <= MAX_WORDS else "wrong"


def folded(text: str) -> str:
    """A text as it is compared: without regard to case and white space."""
    return " ".join(text.casefold().split())


def load(name: str) -> list[Question]:
    """The questions of a set."""
    data = json.loads((FOLDER / f"questions_{name}.json").read_text(encoding="utf-8"))
    return [_question(entry) for entry in [*data["answerable"], *data["unanswerable"]]]


def _question(entry: dict[str, Any]) -> Question:
    removed = [(each["source"], each["text"]) for each in entry.get("remove", [])]
    return Question(
        entry["id"],
        entry["corpus"],
        entry["kind"],
        entry["question"],
        entry.get("answers", []),
        entry.get("wrong", []),
        [each for each in (entry.get("source"), *entry.get("also_in", [])) if each],
        removed,
    )
