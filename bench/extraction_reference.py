"""What pages of HTML say, read in another way than the packs do: by Python's own parser, word after word.

The text of a page's body but for scripts, styles, navigation, the page's header and footer, and what three selectors a
corpus name; and its headings that have text under them.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

DOC: Final = Path("/usr/share/doc")
LEFT_OUT: Final = frozenset({"script", "style", "nav", "header", "footer"})
VOID: Final = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
})  # fmt: skip
# Words that stand in these are within a line: no space is between them and their neighbours.
INLINE: Final = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "dfn", "del", "em", "font", "i", "ins", "kbd",
    "label", "mark", "nobr", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u",
    "var", "wbr", "img",
})  # fmt: skip
RUN: Final = 5


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pages of a Debian package.

    Attributes:
        boilerplate: at most three selectors, ``.class``, ``#id`` or ``tag.class``, of what surrounds the content.
    """

    name: str
    package: str
    folder: Path
    boilerplate: tuple[str, ...] = ()

    def pages(self) -> list[Path]:
        """Its pages, in order of their names."""
        return sorted(path for path in self.folder.rglob("*.html") if path.is_file())

    def sample(self, count: int, seed: int) -> list[Path]:
        """Some of its pages, the same for the same seed."""
        pages = self.pages()
        return random.Random(seed).sample(pages, min(count, len(pages)))


CORPORA: Final = (
    Corpus("sqlite3-doc", "sqlite3-doc", DOC / "sqlite3", (".nosearch",)),
    Corpus("debian-faq", "debian-faq", DOC / "debian" / "FAQ", (".navheader", ".navfooter")),
    Corpus("debian-handbook", "debian-handbook", DOC / "debian-handbook" / "html" / "en-US", ("#banner", ".docnav")),
    Corpus(
        "python3.11-doc", "python3.11-doc", DOC / "python3.11" / "html",
        (".mobile-nav", ".related", ".sphinxsidebar"),
    ),
)  # fmt: skip


@dataclass(slots=True)
class Page:
    """The words of a page in their order, and its headings that have words under them."""

    words: list[str] = field(default_factory=list)
    headings: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Score:
    """Runs of five words and headings: how many there are, and how many of them an extraction has."""

    runs: int = 0
    runs_found: int = 0
    headings: int = 0
    headings_found: int = 0

    @property
    def share_of_runs(self) -> float:
        """1 where nothing is missing."""
        return self.runs_found / self.runs if self.runs else 1.0

    @property
    def share_of_headings(self) -> float:
        """1 where nothing is missing."""
        return self.headings_found / self.headings if self.headings else 1.0

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(slots=True)
class _Open:
    tag: str
    skips: bool


class _Reader(HTMLParser):
    def __init__(self, boilerplate: tuple[str, ...]) -> None:
        super().__init__(convert_charrefs=True)
        self._boilerplate = boilerplate
        self._open: list[_Open] = []
        self._in_body = False
        self._skipping = 0
        self.texts: list[str] = []
        self.headings: list[tuple[str, int, int]] = []
        self._heading: list[str] | None = None
        self._begun = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_body = self._in_body or tag == "body"
        if tag not in INLINE:
            self._say(" ")
        if tag in VOID:
            return
        if tag in ("li", "p", "dt", "dd", "tr", "td", "th"):
            self._close_implied(tag)
        skips = tag in LEFT_OUT or any(_matches(selector, tag, dict(attrs)) for selector in self._boilerplate)
        self._skipping += skips
        self._open.append(_Open(tag, skips))
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit() and not self._skipping:
            self._heading, self._begun = [], len(self.texts)

    def _close_implied(self, tag: str) -> None:
        """A paragraph or item that is open ends where the next begins; nothing is left out in those."""
        if self._open and self._open[-1].tag == tag and not self._open[-1].skips:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in INLINE:
            self._say(" ")
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit() and self._heading is not None:
            self.headings.append(("".join(self._heading), self._begun, len(self.texts)))
            self._heading = None
        for at in range(len(self._open) - 1, -1, -1):
            if self._open[at].tag == tag:
                self._skipping -= sum(each.skips for each in self._open[at:])
                del self._open[at:]
                return

    def handle_data(self, data: str) -> None:
        self._say(data)

    def _say(self, text: str) -> None:
        if self._in_body and not self._skipping:
            self.texts.append(text)
            if self._heading is not None:
                self._heading.append(text)


def _matches(selector: str, tag: str, attrs: dict[str, str | None]) -> bool:
    if selector.startswith("#"):
        return attrs.get("id") == selector[1:]
    wanted, _, name = selector.partition(".")
    return (not wanted or wanted == tag) and name in (attrs.get("class") or "").split()


def read_page(path: Path, corpus: Corpus) -> Page:
    """What a page says."""
    reader = _Reader(corpus.boilerplate)
    reader.feed(path.read_text(encoding="utf-8", errors="replace"))
    reader.close()
    starts = [*(begun for _, begun, _ in reader.headings), len(reader.texts)][1:]
    headings = [
        words_of(text)
        for (text, _, ended), following in zip(reader.headings, starts, strict=True)
        if words_of(text) and words_of("".join(reader.texts[ended:following]))
    ]
    return Page(words_of("".join(reader.texts)), headings)


def words_of(text: str) -> list[str]:
    """What stands between white space, if there is a letter or digit in it; without the marks of Sphinx's links."""
    return [word for word in text.replace("\xb6", " ").split() if any(map(str.isalnum, word))]


def runs_of(words: list[str]) -> Counter[tuple[str, ...]]:
    """All runs of five words, and how often each is there."""
    return Counter(tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1))


def found(wanted: Page, words: list[str], headings: list[list[str]]) -> Score:
    """How much of a page an extraction has."""
    runs = runs_of(wanted.words)
    known = Counter(map(tuple, wanted.headings))
    return Score(
        sum(runs.values()),
        (runs & runs_of(words)).total(),
        known.total(),
        (known & Counter(map(tuple, headings))).total(),
    )
