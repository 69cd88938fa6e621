"""What of a passage may answer a question by itself: a sentence, a list item, a table row, a definition, code. Pure.

A unit is a part of the passage, word for word. What it cannot be understood without comes with it: the words that
announce a list or code, the header of a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from trunkline.methods.languages import count_words, sentence_spans
from trunkline.methods.rag.blocks import Block

Span = tuple[int, int]
UnitKind = Literal["sentence", "list_item", "table_row", "code", "definition"]

LEAD_WORDS: Final = 30
"""What announces a list or code is given with it up to here."""
ITEM_WORDS: Final = 50
"""A list item, or a definition, that is longer is several units: its sentences."""
SHORTEST: Final = 3
SHORTEST_UNENDED: Final = 8
"""Words of a sentence at least; without an end, fewer are a title or a label."""
CODE_LINES: Final = 8
"""Longer code is several units."""

_ENDED: Final = re.compile(r"[.!?…。！？][\"'”’»）)\]]*$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a passage: its characters ``start`` to ``end``.

    Attributes:
        lead: what it cannot be understood without: part of the same passage, before it.
        block: which block of the passage it is in, counted from 0.
    """

    kind: UnitKind
    start: int
    end: int
    lead: Span | None = None
    block: int = 0

    def text(self, passage: str) -> str:
        """Its own words."""
        return passage[self.start : self.end]

    def led(self, passage: str) -> str:
        """Its words, behind those that announce it."""
        lead = "" if self.lead is None else passage[self.lead[0] : self.lead[1]] + "\n"
        return lead + self.text(passage)


def units_of(passage: str, blocks: list[Block], language: str) -> list[Unit]:
    """The units of a passage, in order; headings are none."""
    units: list[Unit] = []
    lead: Span | None = None
    header: Span | None = None
    for number, block in enumerate(blocks):
        text = passage[block.start : block.end]
        if block.kind != "table_row":
            header = None
        if block.kind == "heading" or not text.strip():
            lead = None
        elif block.kind == "paragraph":
            spans = _sentences(passage, block, language)
            whole = [span for span in spans if _is_whole(passage, span, is_first=not units)]
            units += [Unit("sentence", start, end, None, number) for start, end in whole]
            lead = _announcing(passage, spans)
        elif block.kind == "table_row":
            is_header = header is None and blocks[number + 1 : number + 2] and blocks[number + 1].kind == "table_row"
            if not is_header:
                units.append(Unit("table_row", block.start, block.end, header, number))
            header = header or (block.start, block.end)
        elif block.kind == "code":
            units += [Unit("code", start, end, lead, number) for start, end in _pieces(passage, block)]
            lead = None
        else:
            units += _item(passage, block, lead, language, number)
    return [unit for unit in units if any(map(str.isalnum, unit.text(passage)))]


def _item(passage: str, block: Block, lead: Span | None, language: str, number: int) -> Iterator[Unit]:
    """A list item or a definition, or its sentences, each with the first one, which says what it is about."""
    kind: UnitKind = "definition" if block.kind == "definition" else "list_item"
    if count_words(passage[block.start : block.end]) <= ITEM_WORDS:
        yield Unit(kind, block.start, block.end, lead, number)
        return
    spans = _sentences(passage, block, language)
    first = spans[0] if spans and count_words(passage[slice(*spans[0])]) <= LEAD_WORDS else None
    for start, end in spans:
        yield Unit(kind, start, end, lead if (start, end) == spans[0] else first, number)


def _sentences(passage: str, block: Block, language: str) -> list[Span]:
    found = sentence_spans(passage[block.start : block.end], language)
    return [(block.start + start, block.start + end) for start, end in found]


def _is_whole(passage: str, span: Span, *, is_first: bool) -> bool:
    """Whether a sentence says something: it is no title, and does not just announce what follows, or go on from
    another passage."""
    text = passage[slice(*span)]
    is_ended = _ENDED.search(text) is not None
    if text[-1] in ":：" or count_words(text) < (SHORTEST if is_ended else SHORTEST_UNENDED):
        return False
    return not (is_first and passage[span[0]].islower() and not passage[: span[0]].strip())


def _announcing(passage: str, spans: list[Span]) -> Span | None:
    """The last sentence of a paragraph, if it is short or ends in a colon: what follows belongs to it."""
    if not spans:
        return None
    text = passage[slice(*spans[-1])]
    return spans[-1] if count_words(text) <= LEAD_WORDS else None


def _pieces(passage: str, block: Block) -> Iterator[Span]:
    """Code in pieces of some lines, without the white space around it; the first line keeps its indentation."""
    lines = passage[block.start : block.end].splitlines(keepends=True)
    at = block.start
    for first in range(0, len(lines), CODE_LINES):
        piece = "".join(lines[first : first + CODE_LINES])
        kept = piece.rstrip()
        skipped = len(kept) - len(kept.lstrip("\n"))
        if kept.strip():
            yield at + skipped, at + len(kept)
        at += len(piece)
