"""What a setting is where nothing is said, for those that a room needs by itself, too: each stands here alone.

The names are those of the settings in :mod:`trunkline.config`; sizes in bytes, times in seconds. Those of the queue are
in :mod:`trunkline_protocol.backlog`.
"""

from __future__ import annotations

from typing import Final, Literal

Strategy = Literal["round_robin", "least_connections", "performance_based"]
"""How a group chooses the executor of a call."""

DEFAULT_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDING_CACHE_BYTES: Final = 64 * 2**20
EMBEDDING_CACHE_SECONDS: Final = 3600.0
RESPONSE_CACHE_BYTES: Final = 0
RESPONSE_CACHE_SECONDS: Final = 300.0
DOCUMENT_SECONDS: Final = 120.0
DOCUMENT_MEGABYTES: Final = 2048

JWT_LEEWAY: Final = 30.0
FAILED_LOGINS: Final = 60

MAX_CALLS: Final = 131_072
MAX_CALLS_PER_CONNECTION: Final = 16_384
MAX_SUBSCRIPTIONS: Final = 1_024
MAX_SUBSCRIPTIONS_PER_PRINCIPAL: Final = 262_144
MAX_BATCH: Final = 100
MAX_SESSIONS: Final = 16_384
MAX_SESSIONS_PER_PRINCIPAL: Final = 4_096
SESSION_SECONDS: Final = 60.0
IDEMPOTENCY_KEYS: Final = 262_144
IDEMPOTENCY_KEYS_PER_PRINCIPAL: Final = 65_536
MAX_PIPELINES: Final = 1_024
MAX_PIPELINES_PER_PRINCIPAL: Final = 64
HISTORY_EVENTS: Final = 256
HISTORY_SECONDS: Final = 300.0
HISTORY_BYTES: Final = 64 * 2**20

MAX_CONCURRENCY: Final = 256
CALLEE_GRACE: Final = 5.0
BREAKER_RATIO: Final = 0.0
BREAKER_WINDOW: Final = 10.0
BREAKER_CALLS: Final = 20
BREAKER_SECONDS: Final = 5.0
BREAKER_PROBES: Final = 3
START_TIMEOUT: Final = 300.0
KILL_AFTER: Final = 10.0
QUARANTINE_KILLS: Final = 3
QUARANTINE_SECONDS: Final = 300.0
HAND_OVER_SECONDS: Final = 10.0
REBALANCE_SECONDS: Final = 5.0
FINISH_SECONDS: Final = 600.0

JOB_SECONDS: Final = 86_400.0
JOB_ATTEMPTS: Final = 5
JOB_BYTES: Final = 16 * 2**20
JOBS_WAITING: Final = 10_000
JOBS_WAITING_PER_PRINCIPAL: Final = 1_000
JOBS_WAITING_BYTES: Final = 2**30
JOBS_KEPT: Final = 1_000
JOBS_KEPT_SECONDS: Final = 7 * 86_400.0

CONVERSATIONS_PER_PRINCIPAL: Final = 1_000
CONVERSATION_TURNS: Final = 500
CONVERSATION_BYTES: Final = 2**20
CONVERSATIONS_KEPT_SECONDS: Final = 90 * 86_400.0

PING_INTERVAL: Final = 25.0
PING_TIMEOUT: Final = 20.0
PARTIAL_BYTES: Final = 256 * 2**20
PARTIAL_BYTES_PER_PRINCIPAL: Final = 128 * 2**20

AUDIT_KEPT: Final = 10
