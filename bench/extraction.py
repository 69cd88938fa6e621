"""How much of real pages the extractor keeps: ``python -m bench.extraction``.

All pages of four of Debian's documentation packages (``make deps-debian``), or ``--sample`` of each, are read by the
pack ``documents`` and, in another way, by :mod:`bench.extraction_reference`; the table has the share of runs of five
words and of headings that both have. Beside it stands what the extractor of 0.9 (trafilatura 2.3.1) had of all pages.

Target: 97 % of both, in each.
"""

from __future__ import annotations

import argparse
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.extraction_reference import CORPORA, Corpus, Score, found, read_page, words_of
from trunkline.methods.documents.extract import extract

TARGET: Final = 0.97
BEFORE: Final = {
    "sqlite3-doc": (0.7714, 0.1947),
    "debian-faq": (0.7622, 0.0),
    "debian-handbook": (0.5891, 0.5120),
    "python3.11-doc": (0.8607, 0.9693),
}
"""Shares of runs and headings, as measured with the extractor of 0.9, of all pages (2026-12-01)."""
_MARKER: Final = re.compile(r"\A(?:- |\d+\. )")


def score(path: Path, corpus: Corpus) -> Score:
    """How much of one page the extractor has. Markers of list items, which no page has as text, do not count."""
    document = extract(path.read_bytes(), path.name)
    texts = [(block.kind, document.text[block.start : block.end]) for block in document.blocks]
    words = words_of("\n".join(_MARKER.sub("", text) if kind == "list_item" else text for kind, text in texts))
    return found(read_page(path, corpus), words, [words_of(text) for kind, text in texts if kind == "heading"])


def total(corpus: Corpus, pages: list[Path]) -> Score:
    """How much of some pages of a corpus the extractor has."""
    with ProcessPoolExecutor() as processes:
        return sum(processes.map(partial(score, corpus=corpus), pages, chunksize=8), start=Score())


def main() -> None:
    """Print the table. Exit code 1 where the target is missed, 2 where a package is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="pages of each package; all by default")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if missing := [corpus.package for corpus in CORPORA if not corpus.pages()]:
        sys.exit(f"missing: {' '.join(missing)}: make deps-debian")
    table = Table("package", "pages", "runs", "found", "before", "headings", "found ", "before ")
    missed = False
    for corpus in CORPORA:
        pages = corpus.sample(options.sample, options.seed) if options.sample else corpus.pages()
        result = total(corpus, pages)
        before = [f"{100 * share:.2f} %" for share in BEFORE[corpus.name]]
        row = [corpus.package, f"{len(pages):,}", f"{result.runs:,}", f"{100 * result.share_of_runs:.2f} %", before[0]]
        table.add_row(*row, f"{result.headings:,}", f"{100 * result.share_of_headings:.2f} %", before[1])
        missed = missed or min(result.share_of_runs, result.share_of_headings) < TARGET
    Console(width=120).print(table)
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
