"""From a text and its blocks to passages, measured in the tokens of the model that will read them.

A heading begins a passage, and so does a page. A code block, list item, row or definition is cut only where it does not
fit by itself: code after a line, all others where their sentences or words end. A passage is a piece of the text,
character by character.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trunkline.methods.documents.blocks import Block, BlockKind, FileText
from trunkline.methods.documents.tokens import ModelTokens

SEGMENT: Final = 65_536
"""Characters that are split at once: splitting takes more than linear time."""
CHARACTERS_A_TOKEN: Final = 16
"""Beyond this many the text is no words: a megabyte of base64 may be one unknown token."""
STEP: Final = 16
"""Sizes of parts are rounded to it: each size takes a splitter of its own."""
PATH_SHARE: Final = 4
"""A heading path has at most this part of a passage's tokens; of a longer one the innermost headings are embedded."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: ``text`` is its characters ``start`` to ``end``.

    Attributes:
        headings: what it is below, outermost first; the title of the document aside.
        blocks: what it consists of, by places in ``text``; one that is cut is in two passages.
        context: the words that are embedded before it: the title and those headings that are not in ``text``.
    """

    text: str
    start: int
    end: int
    headings: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    context: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as it was read and split; ``pages`` are those that its passages begin on."""

    title: str | None
    note: str | None
    passages: list[Passage]
    pages: list[int | None]


@dataclass(frozen=True, slots=True)
class _Section:
    """Blocks that stand below the same headings, those included that they begin with."""

    headings: tuple[str, ...]
    context: tuple[str, ...]
    blocks: list[Block]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is in one passage as a whole: a block, or a part of a long one."""

    kind: BlockKind
    start: int
    end: int
    tokens: int


class Splitter:
    """Cuts documents into passages of at most ``tokens`` tokens, at the largest units of meaning that fit."""

    def __init__(self, model: ModelTokens, tokens: int, overlap: int = 0) -> None:
        self._tokenizer = model.tokenizer
        self._tokens = tokens
        self._overlap = overlap
        self._cutters: dict[int, Any] = {}

    def split(self, document: FileText, check: Callable[[], None] = lambda: None) -> list[Passage]:
        """All passages, in order. ``check`` is called now and then; what it raises ends it."""
        passages = []
        for section in _sections(document):
            check()
            context = self._fitting(section.context)
            room = self._tokens - self._count(f"{context}\n\n" if context else "")
            for start, end in self._ranges(document.text, section.blocks, room, check):
                text, inside = document.text[start:end], tuple(_inside(section.blocks, start, end))
                passages.append(Passage(text, start, end, section.headings, inside, context))
        return passages

    def _fitting(self, context: Sequence[str]) -> str:
        """The innermost of some headings that leave room for the text."""
        for first in range(len(context)):
            joined = " > ".join(context[first:])
            if len(joined) <= CHARACTERS_A_TOKEN * self._tokens and self._count(joined) * PATH_SHARE <= self._tokens:
                return joined
        return ""

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else 0

    def _ranges(
        self, text: str, blocks: Sequence[Block], room: int, check: Callable[[], None]
    ) -> Iterator[tuple[int, int]]:
        """The places of passages: pieces, as many in each as there is room for."""
        pieces = list(self._pieces(text, blocks, room, check))
        first, start, used = 0, pieces[0].start, 0
        while first < len(pieces):
            last = first
            used += pieces[first].tokens
            longest = start + CHARACTERS_A_TOKEN * room
            while last + 1 < len(pieces) and used + (following := pieces[last + 1]).tokens <= room:
                if following.end > longest:
                    break
                last += 1
                used += pieces[last].tokens
            yield start, pieces[last].end
            first = last + 1
            if first < len(pieces):
                start, used = self._overlapping(text, pieces, first, room)

    def _overlapping(self, text: str, pieces: Sequence[_Piece], following: int, room: int) -> tuple[int, int]:
        """Where a passage begins that has the end of the one before it, too; and the tokens of that."""
        shares = min(self._overlap, room - pieces[following].tokens)
        begin, used = following, 0
        while begin > 0 and used + pieces[begin - 1].tokens <= shares:
            begin -= 1
            used += pieces[begin].tokens
        before, start = pieces[following - 1], pieces[following].start
        if begin < following or shares <= 0 or before.kind != "paragraph" or start < before.end:
            return pieces[begin].start, used
        tokens = self._tokenizer.encode(text[before.start : before.end], add_special_tokens=False)
        if len(tokens.offsets) < shares:
            return start, 0
        space = text.find(" ", before.start + tokens.offsets[-shares][0], before.end)
        return (space + 1, shares) if space >= 0 else (start, 0)

    def _pieces(self, text: str, blocks: Sequence[Block], room: int, check: Callable[[], None]) -> Iterator[_Piece]:
        """The blocks, those in parts that have more tokens than there is room for."""
        above = 0  # tokens of headings, beside which what is below them has to fit
        for block in blocks:
            check()
            is_words = block.end - block.start <= CHARACTERS_A_TOKEN * room
            tokens = self._count(f"{text[block.start : block.end]}\n") if is_words else room + 1
            if block.kind == "heading" and above + tokens < room // 2:
                above += tokens
                yield _Piece(block.kind, block.start, block.end, tokens)
                continue
            left = max(room - above, room // 2) if block.kind == "paragraph" or tokens > room else room
            if tokens <= left:
                yield _Piece(block.kind, block.start, block.end, tokens)
            else:
                yield from self._parts(text, block, left, check)
            above = 0

    def _parts(self, text: str, block: Block, room: int, check: Callable[[], None]) -> Iterator[_Piece]:
        cutter = self._cutter(room)
        start = block.start
        while start < block.end:
            check()
            end = segment_end(text, start, block.end)
            for offset, chunk in cutter.chunk_indices(text[start:end]):
                for at in range(0, len(chunk), CHARACTERS_A_TOKEN * room):
                    part = chunk[at : at + CHARACTERS_A_TOKEN * room]
                    begin = start + offset + at
                    if block.kind == "code" and not at:  # with its indentation, which the cutter drops
                        line = text.rfind("\n", block.start, begin) + 1 or block.start
                        begin = line if text[line:begin].isspace() else begin
                    if part.strip():
                        yield _Piece(block.kind, begin, start + offset + at + len(part), self._count(part) + 1)
            start = end

    def _cutter(self, room: int) -> Any:
        from semantic_text_splitter import TextSplitter

        room = room if room < 2 * STEP else room // STEP * STEP
        if room not in self._cutters:
            overlap = min(self._overlap, room // 2)
            self._cutters[room] = TextSplitter.from_huggingface_tokenizer(self._tokenizer, room, overlap)
        return self._cutters[room]


def _inside(blocks: Sequence[Block], start: int, end: int) -> Iterator[Block]:
    """The blocks of a passage, by places in it."""
    for at in range(bisect_right(blocks, start, key=lambda block: block.end), len(blocks)):
        block = blocks[at]
        if block.start >= end:
            return
        yield Block(block.kind, max(block.start, start) - start, min(block.end, end) - start, block.level)


def _sections(document: FileText) -> Iterator[_Section]:
    """The parts of a document that begin with a heading, or with several of which each is below the one before.

    None goes on from one page to the next, so that each is on the page that it is cited with.
    """
    path: list[tuple[int, str]] = []
    blocks: list[Block] = []

    def section() -> _Section:
        inside = {document.text[each.start : each.end] for each in blocks if each.kind == "heading"}
        headings = [heading for _, heading in path if heading != document.title]
        titles = [document.title] if document.title else []
        return _Section(tuple(headings), tuple(each for each in [*titles, *headings] if each not in inside), blocks)

    for block in document.blocks:
        if blocks and document.page_at(block.start) != document.page_at(blocks[-1].start):
            yield section()
            blocks = []
        if block.kind == "heading":
            goes_on = blocks and blocks[-1].kind == "heading" and blocks[-1].level < block.level
            if blocks and not goes_on:
                yield section()
                blocks = []
            heading = document.text[block.start : block.end]
            path = [each for each in path if each[0] < block.level] + [(block.level, heading)]
        blocks.append(block)
    if blocks:
        yield section()


def segment_end(text: str, start: int, end: int) -> int:
    """Where to cut a long text before it is split: after the last paragraph, line or word of a segment."""
    limit = start + SEGMENT
    if limit >= end:
        return end
    for border in ("\n\n", "\n", " "):
        if (found := text.rfind(border, start + SEGMENT // 2, limit)) >= 0:
            return found + len(border)
    return limit
