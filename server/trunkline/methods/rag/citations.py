"""Citations of a written answer, checked while it is written: ``[9]`` goes where no document has rank 9. Pure."""

from __future__ import annotations

import re
from typing import Final

_CITATION: Final = re.compile(r"(?P<before> |(?<!\w))\[(?P<ranks>\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")
_BEGUN: Final = re.compile(r" ?\[(?:\d[\d,;\s]*)?\Z| \Z|`+\Z")
"""What a citation may begin with: it is held back until the rest of it is there."""
_CODE: Final = re.compile("(`+)")
_HELD: Final = 64
"""Characters that are held back at most: what is longer is no citation."""


class CheckedCitations:
    """Takes the citations of what was not retrieved out of an answer. Code, between backticks, stays as it is.

    Args:
        documents: how many were retrieved: ranks count from 1.

    Attributes:
        unknown: the ranks that were taken out.
    """

    def __init__(self, documents: int) -> None:
        self._documents = documents
        self._held = ""
        self._last = ""
        self._in_code = False
        self.unknown: list[int] = []

    def feed(self, text: str) -> str:
        """What of the answer can be passed on, with another piece of it."""
        text = self._held + text
        begun = _BEGUN.search(text, max(0, len(text) - _HELD))
        ready = len(text) if begun is None else begun.start()
        self._held = text[ready:]
        return self._checked(text[:ready])

    def end(self) -> str:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return self._checked(held)

    def _checked(self, text: str) -> str:
        pieces = _CODE.split(text)
        for number, piece in enumerate(pieces):
            if number % 2:
                self._in_code = not self._in_code
            elif not self._in_code:
                # The character before decides whether brackets are an index, as in argv[1].
                pieces[number] = _CITATION.sub(self._known, self._last + piece)[len(self._last) :]
            self._last = (piece or self._last)[-1:]
        return "".join(pieces)

    def _known(self, citation: re.Match[str]) -> str:
        ranks = [int(each) for each in re.findall(r"\d+", citation["ranks"])]
        known = [rank for rank in ranks if 1 <= rank <= self._documents]
        self.unknown += [rank for rank in ranks if rank not in known and rank not in self.unknown]
        if known == ranks:
            return citation[0]
        return f"{citation['before']}[{', '.join(map(str, known))}]" if known else ""
