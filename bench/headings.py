"""Question sets of headings that are held out of their own documentation, for :mod:`bench.techniques`.

A question is a heading with no other below it; its answer is the text there, from which the heading is cut out. The
title of its page and the headings above it stay, as an application's would. Packages: ``sqlite3-doc``,
``debian-handbook`` (Publican) and ``python3.11-doc`` (Sphinx). Which pages and headings are taken is drawn by a seed.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lxml import html

from bench.corpora import CorpusMissing

_NOISE: Final = (
    "//script | //style | //nav | //noscript | //form | //a[@class='headerlink'] | //div[@class='toc' or "
    "@class='topic' or @class='nosearch' or @class='fancy_toc' or @class='sphinxsidebar' or @class='related' or "
    "@class='footer'] | //ul[contains(@class, 'docnav')] | //p[@id='title'] | //div[@id='banner'] | "
    "//div[contains(@class, 'menu')]"
)
_HEADING: Final = re.compile(r"h([1-6])")
_NUMBER: Final = re.compile(r"^(?:(?:Chapter|Appendix)\s+)?(?:\d+(?:\.\d+)*\.?|[A-Z](?:\.\d+)+\.?|[A-Z]\.)\s+")
_SPACE: Final = re.compile(r"\s+")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_BLOCKS: Final = frozenset(
    ["blockquote", "br", "dd", "div", "dl", "dt", "li", "ol", "p", "section", "table", "td", "th", "tr", "ul"]
)
MIN_WORDS: Final = 3
MIN_CHARACTERS: Final = 120
MAX_QUESTIONS: Final = 400
SEED: Final = 20261201


@dataclass(frozen=True, slots=True)
class Documentation:
    """A package's pages: where they lie, which, and where on a page the text is."""

    name: str
    package: str
    folder: Path
    patterns: tuple[str, ...]
    root: str
    pages: int


DOCUMENTATIONS: Final = {
    each.name: each
    for each in (
        Documentation("sqlite", "sqlite3-doc", Path("/usr/share/doc/sqlite3"), ("*.html",), "//body", 110),
        Documentation(
            "handbook", "debian-handbook", Path("/usr/share/doc/debian-handbook/html/en-US"), ("*.html",), "//body", 200
        ),
        Documentation(
            "python",
            "python3.11-doc",
            Path("/usr/share/doc/python3.11/html"),
            ("library/*.html", "howto/*.html", "reference/*.html", "tutorial/*.html"),
            "//div[@class='body']",
            110,
        ),
    )
}


@dataclass(slots=True)
class HeadedSection:
    """The text below a heading, up to the next heading of any level.

    Attributes:
        above: the headings that it stands under, outermost first, its own left out.
    """

    page: str
    number: int
    heading: str
    above: list[str]
    parts: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Names the section in its documentation."""
        return f"{self.page}#{self.number}"

    @property
    def text(self) -> str:
        """The blocks of the section, a blank line between two of them."""
        blocks = "".join(self.parts).split("\0")
        return "\n\n".join(block for each in blocks if (block := _folded(each)))


def _folded(block: str) -> str:
    """A block with its white space folded; lines of code keep their own."""
    return block[1:].strip("\n").rstrip() if block.startswith("\1") else _SPACE.sub(" ", block).strip()


def sections(documentation: Documentation) -> list[HeadedSection]:
    """The sections of some of the pages, in order.

    Raises:
        CorpusMissing: the package is not installed.
    """
    if not documentation.folder.is_dir():
        raise CorpusMissing(f"apt-get install {documentation.package}")
    found = sorted(page for pattern in documentation.patterns for page in documentation.folder.glob(pattern))
    source = random.Random(SEED)
    pages = sorted(source.sample(found, min(documentation.pages, len(found))))
    return [each for page in pages for each in _of_page(page, documentation) if each.text]


def _of_page(page: Path, documentation: Documentation) -> list[HeadedSection]:
    tree = html.parse(str(page), html.HTMLParser(encoding="utf-8"))
    for noise in tree.xpath(_NOISE):
        noise.drop_tree()
    name = str(page.relative_to(documentation.folder).with_suffix(""))
    title = _NUMBER.sub("", _SPACE.sub(" ", tree.findtext(".//title") or "").strip()).partition(" — Python 3")[0]
    found = [HeadedSection(name, 0, "", [title])]
    open_headings = [(0, title)]
    for root in tree.xpath(documentation.root):
        for level, text in _texts(root):
            if level is None:
                found[-1].parts.append(text)
                continue
            open_headings = [each for each in open_headings if each[0] < level]
            above = [each for each in dict.fromkeys(each for _, each in open_headings) if text not in each]
            found.append(HeadedSection(name, len(found), text, above))
            open_headings.append((level, text))
    return found


def _texts(node: Any) -> Iterator[tuple[int | None, str]]:
    """The texts below a node: those of headings with their level, the others without; blocks are parted by NUL."""
    yield None, node.text or ""
    for child in node:
        if isinstance(child.tag, str):
            if (heading := _HEADING.fullmatch(child.tag)) is not None:
                yield int(heading[1]), _NUMBER.sub("", _SPACE.sub(" ", child.text_content()).strip())
            elif child.tag == "pre":
                yield None, f"\0\1{child.text_content()}\0"
            else:
                edge = "\0" if child.tag in _BLOCKS else ""
                yield None, edge
                yield from _texts(child)
                yield None, edge
        yield None, child.tail or ""


def questions(found: list[HeadedSection]) -> list[HeadedSection]:
    """The sections whose heading is a question: it stands once, has some words, and text below it, but no heading."""
    times = Counter(each.heading.casefold() for each in found)
    times.update(heading.casefold() for each in found for heading in each.above)
    fit = [
        each
        for each in found
        if len(_WORD.findall(each.heading)) >= MIN_WORDS
        and times[each.heading.casefold()] == 1
        and len(each.text) >= MIN_CHARACTERS
    ]
    return random.Random(SEED).sample(fit, min(MAX_QUESTIONS, len(fit)))
