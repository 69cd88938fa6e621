"""Whether data is what a type says, no more and no less."""

from __future__ import annotations

from typing import Any

import msgspec


def require_exactly(value: Any, kind: type[Any]) -> None:
    """Each member has its type, none is missing, and there is none that the type does not know."""
    assert msgspec.to_builtins(msgspec.convert(value, kind, strict=True)) == value
