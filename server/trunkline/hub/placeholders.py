"""``{principal}`` and ``{tenant}`` in patterns of rights: a principal's own name or tenant takes their place."""

from __future__ import annotations

import re
from typing import Final

from trunkline_protocol.hub_methods import METHODS, NAMESPACES
from trunkline_protocol.topics import SYSTEM, valid_pattern, valid_topic

Patterns = tuple[str, ...] | None
"""Patterns of one right; None sets no limit."""

PLACEHOLDERS: Final = ("principal", "tenant")

_BRACED: Final = re.compile(r"\{([^{}]*)\}")

_RESERVED: Final = frozenset(name.partition(".")[0] for name in (*METHODS, *NAMESPACES, SYSTEM))
"""First tokens that are the hub's: who is called so by others does not get rights to them."""


def unknown_placeholder(pattern: str) -> str | None:
    """The first thing in braces that is no placeholder; None where there is none."""
    return next((found[0] for found in _BRACED.finditer(pattern) if found[1] not in PLACEHOLDERS), None)


def filled(patterns: Patterns, name: str, tenant: str) -> Patterns:
    """The patterns for one principal; the same object where none has a placeholder.

    Raises:
        ValueError: a name is no single token, so that the pattern would reach something else than is meant.
    """
    if patterns is None or not any("{" in pattern for pattern in patterns):
        return patterns
    values = {"principal": name, "tenant": tenant}
    return tuple(_filled(pattern, values) for pattern in patterns)


def _is_token(value: str) -> bool:
    return valid_topic(value) and not any(char in value for char in ".{}")


def _filled(pattern: str, values: dict[str, str]) -> str:
    for found in _BRACED.finditer(pattern):
        if (value := values.get(found[1])) is not None and not _is_token(value):
            words = f"the {found[1]} {value!r:.100} cannot stand in the pattern {pattern!r:.100}"
            raise ValueError(f"{words}: it has to be one token (no dot, blank, brace, * or >)")
    result = _BRACED.sub(lambda found: values.get(found[1], found[0]), pattern)
    if result == pattern:
        return pattern
    first = result.partition(".")[0]
    if first in _RESERVED and first != pattern.partition(".")[0]:
        words = f"the pattern {pattern!r:.100} would be {result!r:.100} for it, and {first!r} is the hub's own"
        raise ValueError(f"{words}: begin the pattern with another token")
    if not valid_pattern(result):
        raise ValueError(f"the pattern {pattern!r:.100} would be too long with its name")
    return result
