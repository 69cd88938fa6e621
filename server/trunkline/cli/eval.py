"""``trunkline eval``: measures how well retrieval finds the documents that answer the questions of a file."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trunkline.cli.talk import DEFAULT_URL, EXIT_USAGE, Tenant, Token, Url, fail, talk

if TYPE_CHECKING:
    from trunkline.client import Hub
    from trunkline.evaluate.measures import Measured
    from trunkline.evaluate.questions import Question
    from trunkline.evaluate.retrieval import Retrieved

PRIMARY: Final = "nDCG@10"
"""The measure whose intervals are shown."""


def evaluate(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="Question file (NDJSON).")],
    collection: Annotated[str, typer.Option(help="Collection to search.")],
    technique: Annotated[
        list[str] | None,
        typer.Option(
            help="dense, lexical, hybrid, rrf, or one of rag.retrieve; may be repeated.  [default: the first three]"
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Technique that the others are compared with.  [default: the first]")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Field that 'relevant' refers to: id, or a member of the passages' metadata.")
    ] = "source",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with each question's own measures.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    tenant: Tenant = None,
) -> None:
    """Measure retrieval for each technique: nDCG@10, recall of the first 5, and reciprocal rank.

    With 95 % confidence intervals, also of the difference to a baseline (paired bootstrap over the questions).

    QUESTIONS has one JSON object per line: {"question": "...", "relevant": ["document", ...]}.
    """
    from trunkline.evaluate.questions import QuestionError, read_questions
    from trunkline.evaluate.retrieval import DEFAULT_TECHNIQUES

    chosen = [*dict.fromkeys(technique or DEFAULT_TECHNIQUES)]
    if baseline is not None and baseline not in chosen:
        fail(EXIT_USAGE, f"--baseline {baseline} is not among the techniques: {', '.join(chosen)}")
    try:
        asked = read_questions(questions.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError, QuestionError) as error:
        fail(EXIT_USAGE, f"{questions}: {getattr(error, 'strerror', None) or error}")
    if importlib.util.find_spec("ir_measures") is None:
        fail(EXIT_USAGE, "trunkline eval needs ir_measures: pip install 'trunkline[eval]'")

    async def run(hub: Hub) -> None:
        show(asked, await ask(hub, chosen, collection, asked, by), baseline or chosen[0], as_json=as_json)

    talk(url, token, run, tenant)


async def ask(
    hub: Hub, techniques: Sequence[str], collection: str, questions: Sequence[Question], field: str
) -> dict[str, tuple[Measured, Retrieved]]:
    """Search for the questions with each technique, showing a progress bar; returns the measures by technique."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from trunkline.cli.show.console import TextConsole
    from trunkline.evaluate.measures import measure
    from trunkline.evaluate.retrieval import retrieve

    console = TextConsole(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results = {}
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        for technique in techniques:
            task = progress.add_task(technique, total=len(questions))
            retrieved = await retrieve(hub, technique, collection, questions, field, partial(progress.advance, task))
            results[technique] = (await asyncio.to_thread(measure, questions, retrieved.rankings), retrieved)
    return results


def show(
    questions: Sequence[Question], results: dict[str, tuple[Measured, Retrieved]], baseline: str, *, as_json: bool
) -> None:
    """Print the measures, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps(as_data(questions, results, baseline), ensure_ascii=False, indent=2))
        return
    from trunkline.cli.show.tables import console_for_tables

    console_for_tables().print(table(questions, results, baseline))


def as_data(
    questions: Sequence[Question], results: dict[str, tuple[Measured, Retrieved]], baseline: str
) -> dict[str, Any]:
    """The measures as data: means, intervals, and each question's own in the order of ``questions``."""
    from trunkline.evaluate.measures import difference, estimate

    first = results[baseline][0].each[PRIMARY]
    return {
        "questions": [question.id for question in questions],
        "baseline": baseline,
        "techniques": {
            technique: {
                **measured.means,
                "median_ms": _median_ms(retrieved),
                "interval": asdict(estimate(measured.each[PRIMARY])),
                "difference": asdict(difference(first, measured.each[PRIMARY])),
                "each": measured.each,
            }
            for technique, (measured, retrieved) in results.items()
        },
    }


def table(questions: Sequence[Question], results: dict[str, tuple[Measured, Retrieved]], baseline: str) -> Any:
    """A table with a row per technique, with intervals of its nDCG@10 and of the difference from the baseline's."""
    from rich.table import Table

    from trunkline.evaluate.measures import MEASURES, difference, estimate

    shown = Table(title=f"{len(questions)} questions", title_justify="left")
    shown.add_column("technique")
    for name in (MEASURES[0], "95 %", *MEASURES[1:], "median ms", f"{PRIMARY} less {baseline}", "95 %"):
        shown.add_column(name, justify="right")
    for technique, (measured, retrieved) in results.items():
        own = estimate(measured.each[PRIMARY])
        gained = difference(results[baseline][0].each[PRIMARY], measured.each[PRIMARY])
        shown.add_row(
            technique,
            f"{own.mean:.3f}",
            f"{own.low:.3f} to {own.high:.3f}",
            *(f"{measured.means[name]:.3f}" for name in MEASURES[1:]),
            f"{_median_ms(retrieved):.1f}",
            *(
                ("", "")
                if technique == baseline
                else (f"{gained.mean:+.3f}", f"{gained.low:+.3f} to {gained.high:+.3f}")
            ),
        )
    return shown


def _median_ms(retrieved: Retrieved) -> float:
    return round(statistics.median(retrieved.seconds) * 1000, 2)
