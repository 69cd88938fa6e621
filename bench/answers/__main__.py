"""How good extracted answers are: good of the answerable, refused of the unanswerable, and ten of them as they are.

The pages of two Debian packages are read, split, embedded and asked through the real packs, in this process. The
rules are in ``README.md``; ``--set held_out`` is for one run, at the very end. Exits 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.answers.pages import CORPORA, write_pages
from bench.answers.questions import SETS, Question, Verdict, load
from bench.corpora import CorpusMissing
from trunkline.methods import documents, embeddings, rag, vectors
from trunkline.methods.local import LocalMethods

TIMEOUT_MS: Final = 3_600_000
GOOD: Final = 0.75
REFUSED: Final = 0.8
WRONGLY_REFUSED: Final = 0.1
"""The targets, as shares."""
SHOWN: Final = 5
"""Good answers, and as many of the others, that are printed as they are."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its answer, and how it counts."""

    question: Question
    answer: str
    found: bool
    confidence: float
    milliseconds: float
    cpu_milliseconds: float

    @property
    def verdict(self) -> Verdict:
        """Right, wrong or missed."""
        return self.question.verdict(self.answer, self.found)


async def ask(folder: Path, questions: Sequence[Question], options: argparse.Namespace) -> list[Asked]:
    """Index the pages, and ask all questions."""
    for corpus in CORPORA:
        write_pages(corpus, folder / "pages" / corpus, questions, options.sample)
    settings = {"data_dir": str(folder / "data"), "documents_root": str(folder / "pages")}
    async with LocalMethods(embeddings, vectors, documents, rag, settings=settings) as methods:
        for corpus in CORPORA:
            params = {"collection": corpus, "sources": [{"path": corpus}]}
            totals = (await methods.call("documents.process", params, timeout_ms=TIMEOUT_MS))["totals"]
            print(f"{corpus}: {totals['documents']} pages, {totals['passages']} passages, {totals['failed']} failed")
        console = Console(stderr=True)
        shown = track(questions, "asking", console=console, disable=not console.is_terminal, transient=True)
        return [await _one(methods, question, options) for question in shown]


async def _one(methods: LocalMethods, question: Question, options: argparse.Namespace) -> Asked:
    params: dict[str, Any] = {
        "query": question.text,
        "technique": options.technique,
        "options": {"collection": question.corpus, "top_k": options.top_k},
    }
    began, worked = time.perf_counter(), time.process_time()
    result = await methods.call("rag.execute", params, timeout_ms=TIMEOUT_MS)
    milliseconds = (time.perf_counter() - began) * 1000
    cpu = (time.process_time() - worked) * 1000
    metadata = result["metadata"]
    return Asked(question, result["answer"], metadata["found"], metadata.get("confidence", 0.0), milliseconds, cpu)


def report(asked: Sequence[Asked]) -> list[str]:
    """Print the table and some answers; returns the targets that were missed."""
    answerable = [each for each in asked if each.question.answers]
    others = [each for each in asked if not each.question.answers]
    table = Table("", "questions", "right", "wrong", "missed")
    for name, chosen in _groups(answerable, others):
        verdicts = [each.verdict for each in chosen]
        table.add_row(name, str(len(chosen)), *(str(verdicts.count(each)) for each in ("right", "wrong", "missed")))
    Console(width=100).print(table)
    times = statistics.median(each.milliseconds for each in asked)
    work = statistics.median(each.cpu_milliseconds for each in asked)
    print(f"an answer, median: {times:.0f} ms, of which the CPUs worked {work:.0f} ms")
    _show(asked)
    return missed_targets(answerable, others)


def missed_targets(answerable: Sequence[Asked], others: Sequence[Asked]) -> list[str]:
    """The targets that were missed, in words with the figures."""
    good = _share(each.verdict == "right" for each in answerable)
    wrongly = _share(each.verdict == "missed" for each in answerable)
    refused = _share(each.verdict == "right" for each in others)
    missed = []
    if good < GOOD:
        missed.append(f"good answers: {good:.0%} of the answerable, target {GOOD:.0%}")
    if refused < REFUSED:
        missed.append(f"refused: {refused:.0%} of the unanswerable, target {REFUSED:.0%}")
    if wrongly > WRONGLY_REFUSED:
        missed.append(f"wrongly refused: {wrongly:.0%} of the answerable, target {WRONGLY_REFUSED:.0%}")
    return missed


def _groups(answerable: Sequence[Asked], others: Sequence[Asked]) -> Iterable[tuple[str, list[Asked]]]:
    yield "answerable", list(answerable)
    for kind in sorted({each.question.kind for each in answerable}):
        yield f"  {kind}", [each for each in answerable if each.question.kind == kind]
    yield "unanswerable (right = refused)", list(others)
    for kind in sorted({each.question.kind for each in others}):
        yield f"  {kind}", [each for each in others if each.question.kind == kind]


def _share(holds: Iterable[bool]) -> float:
    every = list(holds)
    return sum(every) / len(every) if every else 1.0


def _show(asked: Sequence[Asked]) -> None:
    right = [each for each in asked if each.verdict == "right" and each.question.answers]
    other = [each for each in asked if each.verdict != "right"]
    for each in [*right[:SHOWN], *other[:SHOWN]]:
        print(f"\n[{each.verdict}, {each.confidence:.2f}] {each.question.id}: {each.question.text}")
        print(f"  {each.answer}".replace("\n", "\n  "))


def main() -> None:
    """Measure a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="tuning")
    parser.add_argument("--technique", default="extractive")
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--data", type=Path, help="where to keep what is indexed; by default it is thrown away")
    parser.add_argument(
        "--sample", type=int, help="index only the pages that questions name, and so many others; no figures to publish"
    )
    options = parser.parse_args()
    questions = load(options.set)
    try:
        with tempfile.TemporaryDirectory() as folder:
            asked = asyncio.run(ask(options.data or Path(folder), questions, options))
    except CorpusMissing as missing:
        sys.exit(str(missing))
    if missed := report(asked):
        sys.exit("targets missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
