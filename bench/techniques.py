"""The techniques of ``rag.*`` over documentation whose headings are the questions: the tables of docs/retrieval.md.

Two sets, ``sqlite`` and ``handbook``, may be used for tuning; ``python`` is for measuring alone (see
:mod:`bench.headings`). Each is embedded once and its vectors are kept in a folder. Then a hub is started, and
``trunkline eval``'s own functions ask it each question by each technique. Exits 1 where the technique that the
documentation recommends is not better than ``hybrid`` by more than chance on the set that it was not tuned on, is worse
on another, or takes too long.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console

from bench.corpora import CorpusMissing
from bench.headings import DOCUMENTATIONS, HeadedSection, questions, sections
from bench.servers import process
from trunkline import Passage
from trunkline.cli.eval import ask, table
from trunkline.client import connect
from trunkline.defaults import DEFAULT_MODEL
from trunkline.evaluate.measures import Measured, difference
from trunkline.evaluate.questions import Question
from trunkline.evaluate.retrieval import Retrieved
from trunkline.methods.rag.ranking import ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT: Final = Path("/tmp/trunkline-bench-techniques")  # vectors of public texts, made anew where missing
TOKENS: Final = 250
BATCH: Final = 256
BASELINE: Final = "hybrid"
RECOMMENDED: Final = "rerank"
TECHNIQUES: Final = ("basic", "hybrid", "rerank", "graph")
TUNED: Final = ("sqlite", "handbook")
RANKED: Final = 50
RANKING_MS: Final = 60.0
Results = dict[str, tuple[Measured, Retrieved]]
PASS: Final = 16


def passages(found: list[HeadedSection]) -> list[dict[str, Any]]:
    """The sections cut by the model's tokens, with metadata as ingested documents have them."""
    from semantic_text_splitter import TextSplitter
    from tokenizers import Tokenizer

    from trunkline.methods.embeddings.model import find_model

    tokenizer = Tokenizer.from_file(f"{find_model(DEFAULT_MODEL).path_or_name}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, TOKENS)
    items: list[dict[str, Any]] = []
    part = 0
    for section in found:
        part = part if items and items[-1]["metadata"]["source"] == section.page else 0
        for number, text in enumerate(splitter.chunks(section.text)):
            blocks = [["paragraph", 0, len(text)]] if number else [["heading", 0, 0], ["paragraph", 0, len(text)]]
            place: dict[str, Any] = {"source": section.page, "section": section.id, "part": part}
            metadata = place | {"headings": section.above, "blocks": blocks}
            items.append({"id": f"{section.page}@{part}", "text": text, "metadata": metadata})
            part += 1
    return items


def vectors_of(texts: list[str], folder: Path) -> NDArray[np.float32]:
    """A vector a text, from the folder, or made now and kept there."""
    from trunkline.methods.embeddings.encoder import Text
    from trunkline.methods.embeddings.model import load_model

    key = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
    file = folder / f"{key}.npy"
    if file.is_file():
        kept: NDArray[np.float32] = np.load(file)
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(DEFAULT_MODEL, "openvino", str(folder))  # torch's vectors, in a quarter of the time
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    vectors = np.empty((len(texts), 0), np.float32)
    for start in range(0, len(order), PASS):
        rows = order[start : start + PASS]
        batch = [Text(texts[row]) for row in rows]
        model.tokenizer.read(batch)
        made = model.run(batch)
        if not vectors.shape[1]:
            vectors = np.empty((len(texts), made.shape[1]), np.float32)
        vectors[rows] = made
    np.save(file, vectors)
    return vectors


async def measure(url: str, name: str, folder: Path, techniques: list[str]) -> tuple[list[Question], Results]:
    """Index a set with its vectors, and ask its questions by each technique."""
    found = sections(DOCUMENTATIONS[name])
    items = passages(found)
    vectors = vectors_of([item["text"] for item in items], folder)
    asked = [Question(each.id, each.heading, {each.id: 1}) for each in questions(found)]
    async with connect(url) as hub:
        model = DEFAULT_MODEL
        await hub.call("collections.create", {"name": name, "dimension": vectors.shape[1], "model": model})
        for start in range(0, len(items), BATCH):
            rows = range(start, min(start + BATCH, len(items)))
            batch = [items[row] | {"vector": base64.b64encode(vectors[row].tobytes()).decode()} for row in rows]
            await hub.call("vectors.upsert", {"collection": name, "items": batch}, timeout_ms=600_000)
        print(f"{name}: {len(asked)} questions, {len(items)} passages of {len(found)} sections", flush=True)
        return asked, await ask(hub, techniques, name, asked, "section")


def evaluate(name: str, folder: Path, techniques: list[str]) -> list[str]:
    """Print the table of one set; returns the targets that were missed."""
    command = ("-m", "trunkline.cli", "serve", "--port", "0", "--packs", "embeddings,vectors,rag", "--no-demo")
    with tempfile.TemporaryDirectory() as data, process(sys.executable, *command, "--data", data) as running:
        asked, results = asyncio.run(measure(running.url, name, folder, techniques))
    Console(width=150).print(table(asked, results, BASELINE))
    if RECOMMENDED not in results:
        return []
    of = {technique: found.each["nDCG@10"] for technique, (found, _) in results.items()}
    gained = difference(of[BASELINE], of[RECOMMENDED])
    if gained.is_above_zero or (name in TUNED and gained.high > 0):
        return []
    return [f"{name}: {RECOMMENDED} less {BASELINE} is {gained.mean:+.3f}, {gained.low:+.3f} to {gained.high:+.3f}"]


def ranking_ms(name: str) -> float:
    """CPU milliseconds that the features of 50 passages take, the median of some questions."""
    found = sections(DOCUMENTATIONS[name])
    items = [Passage(each["id"], 0.0, each["text"], each["metadata"], 0.5, 1.0) for each in passages(found)[:RANKED]]
    taken = []
    for question in questions(found)[:20]:
        began = time.process_time()
        ranked(question.heading, items)
        taken.append(1000 * (time.process_time() - began))
    return statistics.median(taken)


def main() -> None:
    """Measure the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=DOCUMENTATIONS, action="append", help="only this set; may be repeated")
    parser.add_argument("--technique", action="append", help="only this one beside hybrid; may be repeated")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of vectors")
    given = parser.parse_args()
    techniques = [*dict.fromkeys([BASELINE, *(given.technique or TECHNIQUES)])]
    missed = []
    for name in given.set or DOCUMENTATIONS:
        try:
            missed += evaluate(name, given.kept, techniques)
        except CorpusMissing as missing:
            sys.exit(f"{name}: {missing}")
    print(f"ranking {RANKED} passages: {(taken := ranking_ms('sqlite')):.1f} ms of CPU")
    if taken > RANKING_MS:
        missed.append(f"ranking takes {taken:.0f} ms")
    if missed:
        sys.exit("targets missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
