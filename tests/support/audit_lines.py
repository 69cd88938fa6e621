"""Lines of the audit log as the hub makes them, with values of no importance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from trunkline.observe.audit import APPLICATION_ERROR, OUTCOMES, CallLine


def call_line(method: str = "m", code: int = 0, seconds: float = 0.0123456, **more: Any) -> CallLine:
    """The line of a call that has ended now; by default of principal ``alice`` of tenant ``acme``."""
    said: dict[str, Any] = {
        "time": datetime.now(UTC),
        "principal": "alice",
        "tenant": "acme",
        "connection": 17,
        "peer": "10.0.0.5:50312",
    }
    return CallLine(
        event="call",
        method=method,
        outcome=OUTCOMES.get(code, APPLICATION_ERROR),
        code=code,
        duration_ms=int(seconds * 1e6 + 0.5) / 1000,
        **{**said, **more},
    )
