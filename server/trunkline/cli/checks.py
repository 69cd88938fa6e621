"""What a check of ``trunkline doctor`` has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. ``detail`` says what was found and, where something is wrong, what to do."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
