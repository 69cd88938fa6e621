"""The pages that questions are asked about, without the paragraphs that a question needs gone."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from lxml import html

from bench.answers.questions import Question, folded
from bench.corpora import CorpusMissing

CORPORA: Final = {
    "sqlite3-doc": Path("/usr/share/doc/sqlite3"),
    "debian-handbook": Path("/usr/share/doc/debian-handbook/html/en-US"),
}
SEED: Final = 1
BLOCKS: Final = ("p", "li", "tr", "pre", "dd", "dt", "td", "div")


def write_pages(corpus: str, folder: Path, questions: Iterable[Question], sample: int | None = None) -> None:
    """Copy the pages of a corpus into a folder, and take out what the questions say.

    Args:
        sample: only the pages that questions name, and so many others; None for all.

    Raises:
        CorpusMissing: the package is not installed.
    """
    if not CORPORA[corpus].is_dir():
        raise CorpusMissing(f"{corpus} is not installed: apt-get install {corpus}")
    removed: dict[str, list[str]] = {}
    named: set[str] = set()
    for question in questions:
        if question.corpus == corpus:
            named.update(question.sources)
            for source, text in question.removed:
                removed.setdefault(source, []).append(text)
    folder.mkdir(parents=True, exist_ok=True)
    pages = sorted(CORPORA[corpus].glob("*.html"))
    others = [page for page in pages if page.name not in named | removed.keys()]
    random.Random(SEED).shuffle(others)  # not for secrets
    left_out = set() if sample is None else set(others[sample:])
    for page in pages:
        if page in left_out:
            continue
        content = page.read_bytes()
        if page.name in removed:
            content = without(content, removed[page.name])
        (folder / page.name).write_bytes(content)


def without(content: bytes, texts: Iterable[str]) -> bytes:
    """A page without the smallest block that has each of some texts.

    Raises:
        ValueError: no block, or more than one, has it.
    """
    encoding = "latin-1" if _is_latin(content) else "utf-8"
    tree = html.document_fromstring(content, parser=html.HTMLParser(encoding=encoding))
    for block in [_smallest(tree, text) for text in texts]:
        if block.getparent() is not None:  # one block may have several of the texts
            block.drop_tree()
    written: bytes = html.tostring(tree, encoding="utf-8", doctype="<!DOCTYPE html>")
    return written


def _smallest(tree: Any, text: str) -> Any:
    holding = [each for each in tree.iter(*BLOCKS) if folded(text) in folded(each.text_content())]
    smallest = [each for each in holding if not any(each in other.iterancestors() for other in holding)]
    if len(smallest) != 1:
        raise ValueError(f"{len(smallest)} blocks have {text!r}")
    return smallest[0]


def _is_latin(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
