"""How well retrieval finds the answers of two FAQs: dense, lexical and hybrid, with each embedding backend.

The questions are headings of FAQs that nobody here wrote; see :mod:`bench.corpora`. The table is that of
``trunkline eval``. Exits 1 where hybrid retrieval is worse than dense on one of the sets, or where OpenVINO's float
vectors, which may be mixed with torch's, do not find the same. What int8 loses is printed: it has to be asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.corpora import CorpusMissing, QuestionSet, debian_faq, python_faq
from bench.servers import process
from trunkline.cli.eval import ask, table
from trunkline.client import Hub, connect
from trunkline.evaluate.measures import Measured
from trunkline.evaluate.questions import Question
from trunkline.evaluate.retrieval import Retrieved

BATCH = 64
AT_ONCE = 4
TOKENS = 250
FLOAT_MAY_DIFFER = 0.005
BACKENDS = {"torch": ["dense", "lexical", "hybrid", "rrf"], "openvino": ["dense"], "openvino-int8": ["dense", "hybrid"]}
NAMES = {"torch": "", "openvino": ", openvino", "openvino-int8": ", int8"}
SETS: dict[str, Callable[[], QuestionSet]] = {"python-faq": python_faq, "debian-faq": debian_faq}
Results = dict[str, tuple[Measured, Retrieved]]


@contextmanager
def hub(backend: str, data: str) -> Iterator[str]:
    """A hub with the packs that retrieval needs."""
    command = ("-m", "trunkline.cli", "serve", "--port", "0", "--packs", "embeddings,vectors", "--no-demo")
    env = {"TRUNKLINE_EMBEDDING_BACKEND": backend}
    with process(sys.executable, *command, "--data", data, env=env) as running:
        yield running.url


def passages(chosen: QuestionSet) -> list[dict[str, Any]]:
    """The sections, cut by the model's own tokens."""
    from semantic_text_splitter import TextSplitter
    from tokenizers import Tokenizer

    from trunkline.defaults import DEFAULT_MODEL
    from trunkline.methods.embeddings.model import find_model

    tokenizer = Tokenizer.from_file(f"{find_model(DEFAULT_MODEL).path_or_name}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, TOKENS)
    return [
        {"id": f"{section.id}@{part}", "text": text, "metadata": {"source": section.id}}
        for section in chosen.sections
        for part, text in enumerate(splitter.chunks(section.text))
    ]


async def index(hub: Hub, collection: str, items: list[dict[str, Any]]) -> None:
    """Make a collection of the passages."""
    await hub.call("collections.create", {"name": collection}, timeout_ms=120_000)
    gate = asyncio.Semaphore(AT_ONCE)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(f"embedding {collection}", total=len(items))

        async def upsert(batch: list[dict[str, Any]]) -> None:
            async with gate:
                await hub.call("vectors.upsert", {"collection": collection, "items": batch}, timeout_ms=600_000)
            progress.advance(task, len(batch))

        await asyncio.gather(*(upsert(items[at : at + BATCH]) for at in range(0, len(items), BATCH)))


async def measure(
    url: str, chosen: QuestionSet, items: list[dict[str, Any]], techniques: list[str]
) -> tuple[list[Question], Results]:
    """Index a set and ask its questions."""
    questions = [Question(f"q{at}", text, {answer: 1}) for at, (text, answer) in enumerate(chosen.questions)]
    async with connect(url) as hub:
        await index(hub, chosen.name, items)
        return questions, await ask(hub, techniques, chosen.name, questions, "source")


def evaluate(chosen: QuestionSet) -> list[str]:
    """Print the table of one set; returns the targets that were missed."""
    items = passages(chosen)
    results: Results = {}
    for backend, techniques in BACKENDS.items():
        with tempfile.TemporaryDirectory() as data, hub(backend, data) as url:
            questions, found = asyncio.run(measure(url, chosen, items, techniques))
        results |= {f"{technique}{NAMES[backend]}": each for technique, each in found.items()}
    print(f"{chosen.name}: {len(items)} passages of {len(chosen.sections)} sections")
    Console(width=140).print(table(questions, results, "dense"))
    gain = {technique: found.means["nDCG@10"] for technique, (found, _) in results.items()}
    missed = []
    if gain["hybrid"] < gain["dense"]:
        missed.append(f"{chosen.name}: hybrid is worse than dense")
    if abs(gain["dense, openvino"] - gain["dense"]) > FLOAT_MAY_DIFFER:
        missed.append(f"{chosen.name}: openvino's vectors are not torch's: {gain['dense, openvino']:.3f}")
    return missed


def main() -> None:
    """Measure the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, action="append", help="only this set; may be repeated")
    missed = []
    for name in parser.parse_args().set or SETS:
        try:
            missed += evaluate(SETS[name]())
        except CorpusMissing as missing:
            sys.exit(f"{name}: {missing}")
    if missed:
        sys.exit("targets missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
