"""Splits a passage into sentences. Pure; made for prose with code in it, as in technical documentation."""

from __future__ import annotations

import re
from typing import Final

MIN_CHARACTERS: Final = 20
_BLOCKS: Final = re.compile(r"\n\s*\n")
_BOUNDARY: Final = re.compile(r"(?<=[.!?])[\"')\]]?\s+(?=[\"'(\[*]*[A-Z0-9\"“])")
_SPACE: Final = re.compile(r"\s+")
_RULE: Final = re.compile(r"^[*=~^\-+#\s]+$", re.MULTILINE)


def split_sentences(text: str) -> list[str]:
    """The sentences of a passage, white space folded, in order. Code blocks and headings are left out.

    A block counts as code if all its lines are indented and the text before it announces it with a colon.
    """
    sentences: list[str] = []
    announced = False
    for block in _BLOCKS.split(text):
        if not block.strip():
            continue
        indented = all(line.startswith(("  ", "\t")) for line in block.splitlines() if line.strip())
        if indented and (announced or not _ends_like_prose(block)):
            continue
        announced = block.rstrip().endswith(":")
        prose = _SPACE.sub(" ", _RULE.sub(" ", block)).strip()
        sentences.extend(part for part in _BOUNDARY.split(prose) if _is_sentence(part))
    return sentences


def _ends_like_prose(block: str) -> bool:
    return block.rstrip().endswith((".", ":", "!", "?"))


def _is_sentence(text: str) -> bool:
    return len(text) >= MIN_CHARACTERS and text.rstrip("\"')]").endswith((".", "!", "?", ":", ";"))
