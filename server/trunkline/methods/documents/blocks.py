"""The text of a file as a reader sees it, and its blocks: headings, paragraphs, list items and others. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

BlockKind = Literal["paragraph", "list_item", "table_row", "code", "definition", "heading"]
CLOSE: Final = frozenset({"list_item", "table_row"})
"""Kinds of which neighbours stand on neighbouring lines; an empty line is between all others."""

_UNSENDABLE: Final = re.compile("[\ud800-\udfff\x00]")


class Unreadable(Exception):
    """A file no text can be had from; the message begins with "it" and says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a text that belongs together: its characters ``start`` to ``end``.

    Attributes:
        level: of a heading, 1 being the outermost.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0


@dataclass(frozen=True, slots=True)
class FileText:
    """The text of a file, and what is known of it.

    Attributes:
        title: what it calls itself, if it does.
        text: offsets of passages count its characters.
        blocks: in their order; between them is white space alone.
        pages: where in ``text`` each page begins, for files that have pages.
        note: something its owner should know, such as a guessed encoding.
    """

    title: str | None
    text: str
    blocks: tuple[Block, ...] = ()
    pages: tuple[int, ...] = ()
    note: str | None = None

    def titled(self, title: str | None) -> FileText:
        """A copy with another title."""
        return replace(self, title=title)

    def noted(self, *notes: str | None) -> FileText:
        """A copy with more notes, each once."""
        known = dict.fromkeys(note for note in (self.note, *notes) if note)
        return replace(self, note="; ".join(known) or None)

    def page_at(self, offset: int) -> int | None:
        """The page a place in the text is on, from 1; None where there are no pages."""
        return bisect_right(self.pages, offset) or None


class TextBuilder:
    """Puts a text together, block by block, with white space between them."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.length = 0
        self._parts: list[str] = []

    def add(self, kind: BlockKind, text: str, level: int = 0) -> None:
        """Add a block, if there is anything to be seen in it."""
        if not text.strip():
            return
        if self.blocks:
            is_close = kind in CLOSE and self.blocks[-1].kind == kind
            self._append("\n" if is_close else "\n\n")
        start = self.length
        self._append(clean(text))
        self.blocks.append(Block(kind, start, self.length, level))

    def extend(self, other: FileText) -> None:
        """Add the blocks of another text."""
        for block in other.blocks:
            self.add(block.kind, other.text[block.start : block.end], block.level)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self.length += len(text)

    def build(self, title: str | None = None, note: str | None = None, pages: Sequence[int] = ()) -> FileText:
        """The text so far."""
        return FileText(title, "".join(self._parts), tuple(self.blocks), tuple(pages), note)


def clean(text: str) -> str:
    """The text, of the same length, without what JSON cannot carry (lone surrogates) or tokenizers stumble over."""
    return _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def paragraphs_of(text: str) -> tuple[Block, ...]:
    """The blocks of a text without markup: what stands between empty lines, with the indentation it has."""
    blocks: list[Block] = []
    begin: int | None = None
    end = at = 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            if begin is None:
                begin = at
            end = at + len(line.rstrip())
        elif begin is not None:
            blocks.append(Block("paragraph", begin, end))
            begin = None
        at += len(line)
    if begin is not None:
        blocks.append(Block("paragraph", begin, end))
    return tuple(blocks)
