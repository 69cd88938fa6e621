"""Prints for terminals what other people chose: what commands say goes through here, or through ``console.py``."""

from __future__ import annotations

import json
import sys
from typing import Any

from trunkline.terminal_text import escaped, plain_lines
from trunkline_protocol.binary import to_member


def plain_json(value: Any, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """A value as JSON whose strings are readable, with those signs escaped that a terminal would interpret."""
    return escaped(json.dumps(value, default=to_member, ensure_ascii=False, indent=indent, separators=separators))


def say(text: str, *, error: bool = False) -> None:
    """Print text and a line end to standard output, or to standard error."""
    print(plain_lines(text), file=sys.stderr if error else sys.stdout)
