"""Where the sentences of a text are, by the rules of its language (sentencex)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from trunkline.methods.languages.detection import DEFAULT_LANGUAGE, base_language

SEGMENT: Final = 4_096
_UNSENDABLE: Final = re.compile("[\ud800-\udfff]")
_ABBREVIATED: Final = re.compile(r"\b[^\W\d_]{1,4}\.\s*\Z")
_NUMBERED: Final = re.compile(r"(?:^|\n|[.!?]\s)\s*(?:\d+\.)+\s*\Z")
_LOOKED_BACK: Final = 16


def sentence_spans(text: str, language: str = DEFAULT_LANGUAGE) -> list[tuple[int, int]]:
    """The first and the last offset of each sentence, white space around it left out."""
    spans: list[tuple[int, int]] = []
    for begin, behind in _boundaries(text, base_language(language)):
        piece = text[begin:behind]
        start = begin + len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start == end:
            continue
        if spans and _goes_on(text, spans[-1][1], start):
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return spans


def _boundaries(text: str, language: str) -> Iterator[tuple[int, int]]:
    """Where the library cuts: it is given some pages at once, for its time grows with the square of a text."""
    from sentencex import get_sentence_boundaries

    text = _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    begin = 0
    while begin < len(text):
        end = _segment_end(text, begin)
        for boundary in get_sentence_boundaries(language, text[begin:end]):
            yield begin + boundary["start_index"], begin + boundary["end_index"]
        begin = end


def _segment_end(text: str, begin: int) -> int:
    """Where to cut a long text: behind the last paragraph, line, sentence or word that fits."""
    limit = begin + SEGMENT
    if limit >= len(text):
        return len(text)
    for border in ("\n\n", "\n", "。", ". ", " "):
        if (found := text.rfind(border, begin + SEGMENT // 2, limit)) >= 0:
            return found + len(border)
    return limit


def _goes_on(text: str, end: int, start: int) -> bool:
    """Whether a sentence was cut where it goes on: behind the number of an item or heading, or at an abbreviation that
    the library does not know, which lower case follows."""
    if _NUMBERED.search(text, max(0, end - _LOOKED_BACK), end) is not None:
        return True
    return text[start].islower() and _ABBREVIATED.search(text, max(0, end - _LOOKED_BACK), end) is not None
