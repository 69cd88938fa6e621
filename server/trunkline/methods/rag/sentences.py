"""Splits a passage into sentences. Pure; made for prose with code in it, as in technical documentation."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

MIN_CHARACTERS: Final = 20
_BLOCKS: Final = re.compile(r"\n[ \t]*\n")
_BOUNDARY: Final = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]”’]))(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!cf\.)(?<!vs\.)\s+"
    r"(?=[\"“'‘(\[*]*[A-Z0-9])"
)
_RULE: Final = re.compile(r"^\s*([*=~^\-+#\"])\1{2,}\s*$")
_BULLET: Final = re.compile(r"^\s*(?:[*•-]|\d{1,2}[.)])\s+")
_WORD: Final = re.compile(r"[(\"“'‘*]*+[A-Za-z][a-z’'-]*+[\"”'’*)]*+[.,;:!?]?\)?")
"""``*+`` gives nothing back: quotes in a word may also be quotes behind it, and a word of quotes would be tried in
every way there is to share them out."""
_SENTENCE_END: Final = re.compile(r"[.!?][\"')\]”’*]*$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, white space folded, and the code it introduces, verbatim but for its common indentation.

    ``text`` is empty where a passage begins with code.
    """

    text: str
    code: str = ""


def split_sentences(passage: str) -> list[Sentence]:
    """The sentences of a passage, in order.

    A block of indented lines that do not read like prose is code: it is never cut, and goes with the sentence that
    announces it by a colon. Left out are headings, fragments of sentences at either end, and what only announces
    a list.
    """
    sentences: list[Sentence] = []
    for is_code, block in _blocks(passage):
        if is_code:
            code = textwrap.dedent(block).strip("\n").rstrip()
            if sentences and sentences[-1].text.endswith(":"):
                previous = sentences[-1]
                sentences[-1] = replace(previous, code=f"{previous.code}\n\n{code}".lstrip("\n"))
            else:
                sentences.append(Sentence("", code))
        else:
            sentences.extend(map(Sentence, _split_prose(block)))
    if sentences and sentences[0].text[:1].islower():
        del sentences[0]  # the passage begins inside of it
    return [sentence for sentence in sentences if _says_something(sentence)]


def _blocks(passage: str) -> Iterator[tuple[bool, str]]:
    """Blocks between blank lines, and whether each is code."""
    announced = False
    in_code = False
    for block in _BLOCKS.split(passage):
        if not block.strip():
            continue
        prose = _reads_like_prose(block, strict=announced or in_code)
        in_code = not prose and all(line.startswith(("  ", "\t")) for line in block.splitlines() if line.strip())
        yield in_code, block
        if not in_code:
            announced = block.rstrip().endswith(":")


def _reads_like_prose(block: str, *, strict: bool) -> bool:
    if ">>>" in block or "::=" in block or (strict and not block.rstrip().endswith((".", "!", "?", ":"))):
        return False
    words = [word for line in block.splitlines() for word in _BULLET.sub("", line).split()]
    share = sum(1 for word in words if _WORD.fullmatch(word)) / max(1, len(words))
    return len(words) >= 3 and share > (0.7 if strict else 0.5)


def _split_prose(block: str) -> Iterator[str]:
    lines = block.splitlines()
    items: list[list[str]] = [[]]
    for line in lines:
        if _RULE.match(line):
            items[-1:] = [[]]  # what stood above the rule is a heading
        elif _BULLET.match(line):
            items.append([_BULLET.sub("", line)])
        else:
            items[-1].append(line)
    for item in items:
        yield from _BOUNDARY.split(" ".join(" ".join(item).split()))


def _says_something(sentence: Sentence) -> bool:
    if sentence.code:
        return True
    return len(sentence.text) >= MIN_CHARACTERS and _SENTENCE_END.search(sentence.text) is not None
