"""Where the sentences of a text are, by the rules of its language (sentencex)."""

from __future__ import annotations

import re
from typing import Final

from trunkline.methods.languages.detection import DEFAULT_LANGUAGE, base_language

_ABBREVIATED: Final = re.compile(r"\b[^\W\d_]{1,4}\.\s*\Z")
_NUMBERED: Final = re.compile(r"(?:^|\n|[.!?]\s)\s*(?:\d+\.)+\s*\Z")
_LOOKED_BACK: Final = 16


def sentence_spans(text: str, language: str = DEFAULT_LANGUAGE) -> list[tuple[int, int]]:
    """The first and the last offset of each sentence, white space around it left out."""
    from sentencex import get_sentence_boundaries

    spans: list[tuple[int, int]] = []
    for boundary in get_sentence_boundaries(base_language(language), text):
        start, end = boundary["start_index"], boundary["end_index"]
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start == end:
            continue
        if spans and _goes_on(text, spans[-1][1], start):
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return spans


def _goes_on(text: str, end: int, start: int) -> bool:
    """Whether a sentence was cut where it goes on: behind the number of an item or heading, or at an abbreviation that
    the library does not know, which lower case follows."""
    if _NUMBERED.search(text, max(0, end - _LOOKED_BACK), end) is not None:
        return True
    return text[start].islower() and _ABBREVIATED.search(text, max(0, end - _LOOKED_BACK), end) is not None
