"""The topics that the hub itself publishes to (``monitoring.py``), and the JSON Schema of their events' ``data``."""

from __future__ import annotations

from typing import Final

from trunkline.control.schemas import (
    BOOLEAN,
    EXECUTOR,
    ID,
    INTEGER,
    NUMBER,
    STRING,
    Schema,
    array,
    or_null,
    record,
)

_INTEGER_OR_NULL: Final = or_null(INTEGER)
_NUMBER_OR_NULL: Final = or_null(NUMBER)
_STRING_OR_NULL: Final = or_null(STRING)

_METRICS: Final = record(
    dict.fromkeys(
        (
            "connections", "subscriptions", "streams", "calls_in_flight", "calls_waiting", "buffered_bytes",
            "events_dropped",
        ),
        INTEGER,
    )
    | dict.fromkeys(
        (
            "calls_per_second", "errors_per_second", "events_per_second", "deliveries_per_second",
            "bytes_in_per_second", "bytes_out_per_second", "p50_ms", "p95_ms", "p99_ms", "wait_p50_ms", "wait_p95_ms",
            "wait_p99_ms", "run_p50_ms", "run_p95_ms", "run_p99_ms", "rss_mb",
        ),
        NUMBER,
    )
    | {"errors": {"type": "object", "additionalProperties": INTEGER}}
)  # fmt: skip

CALL: Final = record(
    {
        "call": INTEGER,
        "method": STRING,
        "id": ID,
        "principal": _STRING_OR_NULL,
        "connection": _INTEGER_OR_NULL,
        "state": {"enum": ["queued", "running"]},
        "executor": _STRING_OR_NULL,
        "age_ms": NUMBER,
        "chunks": INTEGER,
        "depth": INTEGER,
        "trace_id": _STRING_OR_NULL,
    }
)
"""A call in flight."""

_WORKING: Final[Schema] = {
    "allOf": [
        EXECUTOR,
        record({"cpu_percent": _NUMBER_OR_NULL, "running": array({"allOf": [CALL, record({"parked": BOOLEAN})]})}),
    ]
}

_REQUEST: Final = record(
    {
        "method": STRING,
        "principal": _STRING_OR_NULL,
        "connection": _INTEGER_OR_NULL,
        "id": ID,
        "request_id": _STRING_OR_NULL,
        "trace_id": _STRING_OR_NULL,
        "outcome": STRING,
        "code": INTEGER,
        "failure": _INTEGER_OR_NULL,
        "duration_ms": NUMBER,
        "queue_ms": NUMBER,
        "run_ms": _NUMBER_OR_NULL,
        "executor": _STRING_OR_NULL,
        "chunks": INTEGER,
        "bytes_in": INTEGER,
        "bytes_out": INTEGER,
        "finished_at": INTEGER,
    }
)

_PEER: Final = {
    "connection": INTEGER,
    "peer": STRING,
    "principal": STRING,
    "transport": STRING,
    "client": _STRING_OR_NULL,
}

_CONNECTION: Final = record(
    _PEER
    | dict.fromkeys(
        ("duration_ms", "calls", "streams", "subscriptions", "buffered_bytes", "lag_ms", "dropped_events"), INTEGER
    )
    | dict.fromkeys(("received_bytes", "sent_bytes"), _INTEGER_OR_NULL)
    | dict.fromkeys(("in_bytes_per_second", "out_bytes_per_second"), _NUMBER_OR_NULL)
    | {"session": BOOLEAN}
)

TOPICS: Final[dict[str, tuple[str, Schema]]] = {
    "system.metrics": ("Once a second", _METRICS),
    "system.executors": (
        "Whenever one changes, and once a second while they work",
        record({"executors": array(_WORKING)}),
    ),
    "system.requests": (
        "Calls that ended, up to four times a second",
        record({"requests": array(_REQUEST), "dropped": INTEGER}),
    ),
    "system.connections": (
        "Connections that were made and ended, up to four times a second; once a second a table of them",
        record(
            {
                "opened": array(record(_PEER | {"opened_at": INTEGER})),
                "closed": array(record({"connection": INTEGER, "duration_ms": NUMBER})),
                "dropped": INTEGER,
                "open": INTEGER,
                "connections": or_null(array(_CONNECTION)),
            }
        ),
    ),
    "system.logs": (
        "Log records, up to four times a second; further members are the record's own",
        record(
            {
                "records": array(
                    record({"time": STRING, "level": STRING, "logger": STRING, "event": STRING})
                    | {"additionalProperties": True}
                ),
                "dropped": INTEGER,
            }
        ),
    ),
}
"""By topic: when it is published, and what."""
