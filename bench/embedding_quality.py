"""What each backend's vectors are worth: the table of ``python -m bench.embeddings --quality``.

Known-item search over the demo collection: a query is the title of a topic, after its passages, or a sentence, after
the passage it stood in; both are cut out of the passages. And how near the vectors are to torch's, and how much of
torch's first ten is found.
"""

from __future__ import annotations

import math
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trunkline.cli.demo import reference_passages
from trunkline.methods.embeddings.encoder import Text
from trunkline.methods.embeddings.model import Backend, LoadedModel, load_model

BACKENDS: tuple[Backend, ...] = ("torch", "openvino", "openvino-int8")
DEPTH = 10
PASS = 8


@dataclass(frozen=True, slots=True)
class Known:
    """Passages, queries, and which passages (rows) each query is after."""

    passages: list[str]
    queries: list[str]
    relevant: list[set[int]]


def known_items(limit: int) -> Known:
    """Two sorts of query: titles of topics, and a sentence out of the middle of a passage, cut out of it."""
    passages: list[str] = []
    by_title: dict[str, set[int]] = {}
    sentences: list[tuple[str, int]] = []
    for passage in reference_passages()[:limit]:
        title = passage["metadata"]["title"]
        text = passage["text"].replace(title, "").strip(" \n*=-~\"'")
        parts = re.split(r"(?<=[.!?])\s+", text)
        middle = parts[len(parts) // 2]
        if len(parts) >= 4 and 6 <= len(middle.split()) <= 40:
            sentences.append((middle, len(passages)))
            text = text.replace(middle, "")
        if len(text) > 40:
            by_title.setdefault(title, set()).add(len(passages))
            passages.append(text)
    titles = [(title, rows) for title, rows in by_title.items() if len(title.split()) > 1 and len(rows) <= 8]
    relevant = [rows for _, rows in titles] + [{row} for _, row in sentences]
    return Known(passages, [title for title, _ in titles] + [text for text, _ in sentences], relevant)


def embed(model: LoadedModel, texts: list[str]) -> np.ndarray:
    """Vectors, a row a text."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    parts = []
    for start in range(0, len(order), PASS):
        part = [Text(texts[index]) for index in order[start : start + PASS]]
        model.tokenizer.read(part)
        parts.append(model.run(part))
    vectors = np.empty((len(texts), parts[0].shape[1]), np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors


def best(queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
    """The rows of the best passages of each query, best first."""
    return np.argsort(-(queries @ passages.T), axis=1)[:, :DEPTH]


def ndcg(found: np.ndarray, relevant: list[set[int]]) -> list[float]:
    """nDCG@10 of each query; a passage is relevant or not."""
    scores = []
    for rows, wanted in zip(found, relevant, strict=True):
        gained = sum(1 / math.log2(rank + 2) for rank, row in enumerate(rows) if row in wanted)
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(DEPTH, len(wanted))))
        scores.append(gained / ideal)
    return scores


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """How much of each query's first ten is the same."""
    return statistics.mean(len({*a} & {*b}) / DEPTH for a, b in zip(one, other, strict=True))


class Seen(NamedTuple):
    """A backend's vectors, and the nDCG@10 of each query."""

    passages: np.ndarray
    queries: np.ndarray
    scores: list[float]


def table(model: str = "all-MiniLM-L6-v2", limit: int = 800) -> Iterator[str]:
    """The backends side by side, a line each. ``CPU`` is in seconds, which a busy machine makes no longer."""
    known = known_items(limit)
    yield f"{len(known.passages)} passages, {len(known.queries)} queries; (difference to torch +- its standard error)"
    yield "| backend | CPU a text | cosine: mean / 1 % / least | nDCG@10 | same first 10 | the same, torch's passages |"
    yield "|---|---|---|---|---|---|"
    first: Seen | None = None
    with tempfile.TemporaryDirectory() as data:
        for backend in BACKENDS:
            loaded = load_model(model, backend, data)
            started = time.process_time()
            passages, queries = embed(loaded, known.passages), embed(loaded, known.queries)
            seconds = (time.process_time() - started) / (len(passages) + len(queries))
            seen = Seen(passages, queries, ndcg(best(queries, passages), known.relevant))
            first = first or seen
            yield f"| `{backend}` | {1000 * seconds:.1f} ms | {compared(seen, first)} |"


def compared(seen: Seen, first: Seen) -> str:
    """The last columns of a line."""
    cosines = (seen.passages * first.passages).sum(axis=1)
    gaps = [mine - theirs for mine, theirs in zip(seen.scores, first.scores, strict=True)]
    error = statistics.stdev(gaps) / math.sqrt(len(gaps))
    wanted = best(first.queries, first.passages)
    return (
        f"{cosines.mean():.4f} / {np.quantile(cosines, 0.01):.4f} / {cosines.min():.4f} | "
        f"{statistics.mean(seen.scores):.4f} ({statistics.mean(gaps):+.4f} +- {error:.4f}) | "
        f"{overlap(best(seen.queries, seen.passages), wanted):.3f} | "
        f"{overlap(best(seen.queries, first.passages), wanted):.3f}"
    )
