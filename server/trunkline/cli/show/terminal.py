"""Makes other people's text safe for a terminal."""

from __future__ import annotations

from typing import Final

_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def plain(text: str) -> str:
    """A text as one line, with control characters replaced: a terminal would interpret them."""
    return text.translate(_CONTROLS)
