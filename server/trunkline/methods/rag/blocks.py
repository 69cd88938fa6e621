"""The blocks of a passage: paragraphs, list items, table rows, code, definitions, headings.

Documents are indexed with the blocks of each passage in its metadata; of passages without them, blocks are found in the
plain text. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Kind = Literal["paragraph", "list_item", "table_row", "code", "definition", "heading"]

KINDS: Final = frozenset(get_args(Kind))
MAX_BLOCKS: Final = 1_000
"""What metadata may have: anybody may write it."""

_FENCE: Final = re.compile(r"[ \t]*(```|~~~)")
_HEADING: Final = re.compile(r"#{1,6}[ \t]")
_RULE: Final = re.compile(r"[ \t]*([*=~^\-+#\"])\1{2,}[ \t]*$")
_BULLET: Final = re.compile(r"[ \t]*(?:[*•-]|\d{1,2}[.)])[ \t]+")
_TABLE_ROW: Final = re.compile(r"[ \t]*\|[^\n]*\|[ \t]*$")
_TABLE_RULE: Final = re.compile(r"[ \t|:-]+$")
_WORD: Final = re.compile(r"[(\"“'‘*]*+[^\W\d_]+(?:[’'-][^\W\d_]+)*+[\"”'’*)]*+[.,;:!?]?\)?")
"""``*+`` gives nothing back: quotes in a word may also be quotes behind it, and a word of quotes would be tried in
every way there is to share them out."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a passage: its characters ``start`` to ``end``."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    start: int
    end: int


def blocks_of(text: str, metadata: Mapping[str, Any]) -> list[Block]:
    """The blocks of a passage, in order: those in its metadata, if they are of this text, else those of its lines."""
    given = _given(metadata.get("blocks"), len(text))
    return given or [block for block in _found(text) if block.start < block.end]


def headings_of(metadata: Mapping[str, Any]) -> list[str]:
    """The headings above a passage, outermost first, as its metadata has them."""
    headings = metadata.get("headings")
    return [each for each in headings if isinstance(each, str)] if isinstance(headings, list) else []


def _given(blocks: Any, length: int) -> list[Block]:
    """Blocks of metadata; none where one of them cannot be."""
    if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS:
        return []
    kept: list[Block] = []
    last = 0
    for each in blocks:
        match each:
            case [str() as kind, int() as start, int() as end] if kind in KINDS and last <= start <= end <= length:
                kept.append(Block(kind, start, end))  # type: ignore[arg-type]  # it is one of KINDS
                last = end
            case _:
                return []
    return kept


def _found(text: str) -> Iterator[Block]:
    """Blocks of plain text, or of Markdown."""
    announced = in_code = False
    for lines in _groups(text):
        first = lines[0].text
        if _FENCE.match(first):
            yield _fenced(lines)
            continue
        if _is_code(lines, strict=announced or in_code):
            in_code = True
            yield Block("code", lines[0].start, lines[-1].end)
            continue
        in_code = False
        announced = lines[-1].text.rstrip().endswith((":", "："))
        yield from _prose(lines)


def _groups(text: str) -> Iterator[list[_Line]]:
    """Lines between blank lines; what is fenced is one group."""
    lines: list[_Line] = []
    fence: str | None = None
    start = 0
    for raw in text.splitlines(keepends=True):
        line = _Line(raw, start, start + len(raw.rstrip()))
        start += len(raw)
        opening = _FENCE.match(raw)
        if fence is not None:
            lines.append(line)
            if opening and opening[1] == fence:
                yield lines
                lines, fence = [], None
        elif opening:
            if lines:
                yield lines
            lines, fence = [line], opening[1]
        elif raw.strip():
            lines.append(line)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _fenced(lines: list[_Line]) -> Block:
    inner = lines[1:-1] if len(lines) > 1 and _FENCE.match(lines[-1].text) else lines[1:]
    return Block("code", inner[0].start, inner[-1].end) if inner else Block("code", lines[0].end, lines[0].end)


def _is_code(lines: list[_Line], *, strict: bool) -> bool:
    """Whether all lines are indented and do not read like prose.

    Args:
        strict: code was announced, or has begun before.
    """
    indented = all(line.text.startswith(("  ", "\t")) for line in lines)
    return indented and not any(map(_is_bullet, lines)) and not _reads_like_prose(lines, strict=strict)


def _is_bullet(line: _Line) -> bool:
    return _BULLET.match(line.text) is not None


def _reads_like_prose(lines: list[_Line], *, strict: bool) -> bool:
    block = "".join(line.text for line in lines)
    if ">>>" in block or "::=" in block:
        return False
    if strict and not block.rstrip().endswith((".", "!", "?", ":", "。", "！", "？")):
        return False
    words = block.split()
    share = sum(1 for word in words if _WORD.fullmatch(word)) / max(1, len(words))
    return share > (0.7 if strict else 0.5)


def _prose(lines: list[_Line]) -> Iterator[Block]:
    """Headings, list items, table rows, and what is left: paragraphs."""
    kind: Kind = "paragraph"
    begun: _Line | None = None
    last = lines[0]
    for line in lines:
        own = _kind_of(line)
        if own == "paragraph" and begun is not None and not _RULE.match(line.text):
            last = line
            continue
        if begun is not None:
            yield Block("heading" if _RULE.match(line.text) else kind, begun.start, last.end)
        begun = None if _RULE.match(line.text) or _is_table_rule(line) else line
        kind, last = own, line
        if own in ("heading", "table_row") and begun is not None:
            yield Block(own, line.start, line.end)
            begun = None
    if begun is not None:
        yield Block(kind, begun.start, last.end)


def _kind_of(line: _Line) -> Kind:
    if _HEADING.match(line.text):
        return "heading"
    if _TABLE_ROW.match(line.text.rstrip()):
        return "table_row"
    return "list_item" if _is_bullet(line) else "paragraph"


def _is_table_rule(line: _Line) -> bool:
    return "|" in line.text and _TABLE_RULE.match(line.text.rstrip()) is not None
