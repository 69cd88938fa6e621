"""Contexts of calls that no runner has begun, for tests of what looks at them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from trunkline.methods.context import Context


def context_of(call_id: int, method: str, metadata: Mapping[str, Any] | None = None) -> Context:
    """The context of a call whose method asks nothing of its host."""
    host: Any = None
    return Context(host, call_id, method, msgspec.json.encode(metadata or {}), math.inf, 0, "executor-0", b"")
