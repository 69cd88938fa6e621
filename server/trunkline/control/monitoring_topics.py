"""The topics that the hub itself publishes to (``monitoring.py``), and the types of their events' data."""

from __future__ import annotations

from typing import Final

import msgspec

from trunkline_protocol.health_reports import Serving
from trunkline_protocol.reports import ConnectionsReport, ExecutorsReport, HubMetrics, LogsReport, RequestsReport

TOPICS: Final[dict[str, tuple[str, type[msgspec.Struct]]]] = {
    "system.metrics": ("Once a second", HubMetrics),
    "system.executors": ("When the state of an executor changes, and once a second while calls run", ExecutorsReport),
    "system.health": ("When what can be served changes, at most once a second, and for a new subscriber", Serving),
    "system.requests": ("Calls that ended, up to four times a second", RequestsReport),
    "system.connections": (
        "Connections that were opened and closed, up to four times a second; once a second a table of the open ones",
        ConnectionsReport,
    ),
    "system.logs": ("Log records, up to four times a second; further members are fields of the record", LogsReport),
}
"""By topic: when events are published, and the type of their ``data``."""
