"""Markdown pages: their blocks of code, their headings, their links. Pure."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]

_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<rule>[^>]*) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Attributes:
        page: the file.
        line: where it begins.
        rule: the comment before it.
    """

    page: Path
    line: int
    language: str
    rule: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}, line {self.line}"


def pages() -> list[Path]:
    """All Markdown of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(path for name in listed.stdout.splitlines() if (path := REPOSITORY / name).exists())


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of code of a page."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        yield Block(page, line, found["language"], found["rule"] or "", found["code"])


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return _BLOCK.sub("", page.read_text())


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        same = sum(1 for each in anchors if re.fullmatch(re.escape(anchor) + r"(-\d+)?", each))
        anchors.add(f"{anchor}-{same}" if same else anchor)
    return anchors


def links_of(page: Path) -> list[str]:
    """Where the links and pictures of a page point to."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose_of(page)))
