"""What the hub's own methods answer, as JSON Schema. A test holds each against the method's real answers."""

from __future__ import annotations

from typing import Final

from trunkline.control.schemas import (
    BOOLEAN,
    EXECUTOR,
    HEALTH,
    INTEGER,
    NUMBER,
    STRING,
    Schema,
    array,
    or_null,
    record,
)
from trunkline.control.topics import CALL

_QUANTILES: Final[Schema] = dict.fromkeys(
    (f"{of}p{q}_ms" for of in ("", "wait_", "run_") for q in (50, 95, 99)), NUMBER
)
_BY_NAME: Final[Schema] = {"type": "object", "additionalProperties": INTEGER}

DETAILED: Final[Schema] = {
    "causes": array(STRING),
    "connections": INTEGER,
    "waiting_requests": INTEGER,
    "executors": array(EXECUTOR),
}
"""What ``health.detailed`` says beside ``health.check``."""

_STATS: Final = record(
    dict.fromkeys(("count", "success", "bytes_in", "bytes_out"), INTEGER)
    | {"errors": _BY_NAME, "mean_ms": NUMBER, "max_ms": NUMBER}
    | _QUANTILES
)
_SAMPLE: Final = record({"seconds_ago": NUMBER, "seconds": NUMBER, "calls": INTEGER, "errors": INTEGER} | _QUANTILES)
_TOPIC: Final = record(
    {"topic": STRING, "epoch": STRING, "oldest_at": or_null(INTEGER)}
    | dict.fromkeys(("offset", "kept", "kept_bytes", "subscribers"), INTEGER)
)

RESULTS: Final[dict[str, Schema]] = {
    "rpc.ping": record(
        {
            "pong": {"const": True},
            "time_ms": INTEGER,
            "limits": record(dict.fromkeys(("max_message_bytes", "max_depth", "max_batch"), INTEGER)),
            "hub": record({"name": STRING, "version": STRING}),
        }
    ),
    "rpc.discover": record(
        {
            "openrpc": STRING,
            "info": record({"title": STRING, "version": STRING}),
            "methods": array({"type": "object"}),
            "components": record({"schemas": {"type": "object"}}),
        }
    ),
    "health.check": HEALTH,
    "health.detailed": record(HEALTH["properties"] | DETAILED),
    "system.info": record(
        dict.fromkeys(("name", "version", "python", "platform", "implementation"), STRING)
        | dict.fromkeys(("pid", "memory_total_mb", "executors", "methods", "connections"), INTEGER)
        | {
            "wire_version": STRING,
            "cpu_count": or_null(INTEGER),
            "uptime_seconds": NUMBER,
            "packs": array(STRING),
        }
    ),
    "metrics.get": record(
        {
            "window_seconds": NUMBER,
            "request_count": INTEGER,
            "error_count": INTEGER,
            "requests_per_second": NUMBER,
            "total": _STATS,
            "active_requests": INTEGER,
            "waiting_requests": INTEGER,
            "methods": {"type": "object", "additionalProperties": _STATS},
        },
        {"series": array(_SAMPLE)},
    ),
    "system.calls": record({"calls": array(CALL), "more": INTEGER}),
    "executors.assign": record({"key": STRING, "slot": INTEGER, "worker_id": STRING}),
    "executors.drain": record({"worker_id": STRING, "slots": INTEGER, "pid": INTEGER}),
    "system.cancel": record({"call": INTEGER, "cancelled": BOOLEAN}),
    "system.topics": record(
        {
            "topics": array(_TOPIC),
            "more": INTEGER,
            "subscribed": array(record({"pattern": STRING, "subscribers": INTEGER})),
        }
    ),
    "system.failure": record(
        {
            "failure": INTEGER,
            "kept": BOOLEAN,
            "method": or_null(STRING),
            "params": {"description": "as they were given"},
            "redacted": INTEGER,
        }
    ),
    "auth": record({"principal": STRING, "roles": array(STRING), "expires_in_ms": or_null(INTEGER)}),
    "subscribe": record({"topic": STRING, "epoch": or_null(STRING), "offset": INTEGER, "recovered": BOOLEAN}),
    "unsubscribe": record({"topic": STRING, "unsubscribed": BOOLEAN}),
    "publish": record({"topic": STRING, "epoch": STRING, "offset": INTEGER}),
    "method.register": record({"method": STRING, "callees": INTEGER}),
    "method.unregister": record({"method": STRING, "unregistered": BOOLEAN}),
}
"""By method."""
