"""The topics that the hub itself publishes to (``monitoring.py``), and what their events carry."""

from __future__ import annotations

from typing import Final

import msgspec

from trunkline_protocol.reports import ConnectionsReport, ExecutorsReport, HubMetrics, LogsReport, RequestsReport

TOPICS: Final[dict[str, tuple[str, type[msgspec.Struct]]]] = {
    "system.metrics": ("Once a second", HubMetrics),
    "system.executors": ("Whenever one changes, and once a second while they work", ExecutorsReport),
    "system.requests": ("Calls that ended, up to four times a second", RequestsReport),
    "system.connections": (
        "Connections that were made and ended, up to four times a second; once a second a table of them",
        ConnectionsReport,
    ),
    "system.logs": ("Log records, up to four times a second; further members are the record's own", LogsReport),
}
"""By topic: when it is published, and the type of the events' ``data``."""
