"""The kinds of values that several settings have."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

LIVE: Final = "live"
"""Marks a setting that can change while the hub runs; :mod:`trunkline.hosting.configuration` applies it."""

LiveInt = Annotated[int, LIVE]
LiveFloat = Annotated[float, LIVE]


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A list in TOML, a comma-separated string in the environment."""
