"""What may go to a terminal."""

from __future__ import annotations

from typing import Final

_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def plain(text: str) -> str:
    """Text of others as one line, without what a terminal would obey."""
    return text.translate(_CONTROLS)
