"""Names and text of a document, made fit for source code. Whatever a document says, it stays a name or a comment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable


class Names:
    """Hands out type names, each once."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._taken = set(reserved)

    def take(self, *hints: str) -> str:
        """The first of the hints that is free, as a name in PascalCase; the last with a number where all are taken."""
        for hint in hints[:-1]:
            if (name := type_name(hint)) not in self._taken:
                self._taken.add(name)
                return name
        name = base = type_name(hints[-1])
        count = 1
        while name in self._taken:
            count += 1
            name = f"{base}{count}"
        self._taken.add(name)
        return name


def type_name(hint: str) -> str:
    """``rag.execute params`` -> ``RagExecuteParams``: ASCII letters and digits, a capital first."""
    words = re.findall(r"[A-Za-z0-9]+", hint)
    name = "".join(word[0].upper() + word[1:] for word in words)
    return name if name[:1].isalpha() else f"Type{name}"


def quoted(text: str) -> str:
    """A string literal, for TypeScript and Python alike. What does not print, or cannot be UTF-8, is escaped."""
    # Beyond U+FFFF the two have no escape in common, and nothing there needs one.
    signs = (json.dumps(sign, ensure_ascii=not sign.isprintable() and sign <= "\uffff")[1:-1] for sign in text)
    return f'"{"".join(signs)}"'


def plain_lines(text: str) -> list[str]:
    """Text for comments: no control characters, nothing that turns lines around, no blank lines at the ends."""
    lines = ["".join(sign if sign.isprintable() else " " for sign in line).rstrip() for line in text.splitlines()]
    return "\n".join(lines).strip("\n").split("\n") if any(lines) else []
