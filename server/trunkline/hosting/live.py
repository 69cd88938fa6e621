"""Makes the parts of a running hub follow its live settings: the one place that reads these after the start."""

from __future__ import annotations

import logging

from trunkline.broker.common import HistoryLimits
from trunkline.config import Settings
from trunkline.control.request_log import request_log
from trunkline.conversations.limits import ConversationLimits
from trunkline.edge.acceptor import raise_descriptor_limit
from trunkline.executors.quarantine import QuarantineLimits
from trunkline.hosting.app import HubParts
from trunkline.hosting.limit_settings import share_limits
from trunkline.hub.breaker import BreakerLimits
from trunkline.jobs.limits import JobLimits


def apply(parts: HubParts, settings: Settings) -> None:
    """Follow settings that differ from the present ones in live ones only. What is counted or kept stays."""
    parts.settings = settings
    _observe(parts, settings)
    _limit_calls(parts, settings)
    _limit_sessions(parts, settings)
    parts.broker.limits = HistoryLimits(
        settings.history_events, settings.history_seconds, settings.history_bytes, parts.broker.limits.topics
    )
    parts.pool.watchdog.limit(settings.kill_after)
    parts.pool.quarantine.limits = QuarantineLimits(settings.quarantine_kills, settings.quarantine_seconds)
    parts.jobs.limit(JobLimits.of(settings, len(parts.pool.executors)))
    parts.conversations.limits = ConversationLimits.of(settings)
    parts.registrations.grace = settings.callee_grace
    parts.router.breakers.limits = BreakerLimits.of(settings)


def stop_seconds(settings: Settings) -> tuple[float, float]:
    """How long a stopping hub waits for its calls, and over how long it then closes its connections; in seconds."""
    return settings.drain_seconds, settings.close_seconds


def _observe(parts: HubParts, settings: Settings) -> None:
    logging.getLogger().setLevel(settings.log_level.upper())
    parts.log_request = request_log(settings.log_requests)
    parts.tenant_calls.labels = settings.metrics_tenants
    parts.failed.wanted = settings.keep_failed_params
    parts.data_folder.warn_below = settings.disk_warning_bytes


def _limit_calls(parts: HubParts, settings: Settings) -> None:
    parts.router.max_calls = settings.max_calls
    limits = parts.limits
    limits.max_calls_per_connection = settings.max_calls_per_connection
    limits.max_subscriptions = settings.max_subscriptions
    parts.topics.totals.max_weight = settings.max_subscriptions_per_principal
    parts.context.max_connections = settings.max_connections
    raise_descriptor_limit(settings.max_connections)
    parts.shares.limits = share_limits(settings)
    parts.context.services.rates.limit(settings.rate_limit, settings.rate_burst)
    parts.logins.limit_to(settings.failed_logins)
    parts.context.services.tenant_rates.limit(settings.rate_limit_per_tenant)
    for connection in parts.monitor.book.connections():
        connection.become(connection.principal)


def _limit_sessions(parts: HubParts, settings: Settings) -> None:
    table = parts.sessions.table
    table.max_sessions = settings.max_sessions
    table.max_sessions_per_principal = settings.max_sessions_per_principal
    parts.pipelines.limits.all = settings.max_pipelines
    parts.pipelines.limits.per_principal = settings.max_pipelines_per_principal
