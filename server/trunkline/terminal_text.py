"""Texts that are safe for a terminal, whoever chose them. Pure."""

from __future__ import annotations

from typing import Final

_CONTROLS: Final = (*range(32), *range(127, 160))
_TURNING: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Signs that turn lines around: what follows one is read in another order than it has."""

_ONE_LINE: Final = dict.fromkeys((*_CONTROLS, *_TURNING), "\N{REPLACEMENT CHARACTER}")
_LINES: Final = {code: sign for code, sign in _ONE_LINE.items() if chr(code) not in "\n\t"}
_ESCAPED: Final = {code: f"\\u{code:04x}" for code in (*range(127, 160), *_TURNING)}


def plain(text: str) -> str:
    """A text as one line, with control characters replaced: a terminal would interpret them."""
    return text.translate(_ONE_LINE)


def plain_lines(text: str) -> str:
    """A text whose lines and tabs stay, with the other control characters replaced."""
    return text.translate(_LINES)


def escaped(json: str) -> str:
    """JSON that means the same, with those control characters escaped that JSON itself lets stand."""
    return json.translate(_ESCAPED)
