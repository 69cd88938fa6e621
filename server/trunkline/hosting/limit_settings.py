"""The limits of connections, and of those that share the hub, as the settings give them."""

from __future__ import annotations

from trunkline.config import Settings
from trunkline.hub.limits import ConnectionLimits
from trunkline.hub.shares import ShareLimits


def connection_limits(settings: Settings) -> ConnectionLimits:
    """The limits of connections and events that the settings give."""
    return ConnectionLimits(
        max_batch=settings.max_batch,
        max_calls_per_connection=settings.max_calls_per_connection,
        max_subscriptions=settings.max_subscriptions,
        max_subscriptions_per_principal=settings.max_subscriptions_per_principal,
    )


def share_limits(settings: Settings) -> ShareLimits:
    """The limits of each holder that the settings give, when the hub starts and whenever they are read again."""
    return ShareLimits(
        max_connections_per_principal=settings.max_connections_per_principal,
        max_connections_per_tenant=settings.max_connections_per_tenant,
        max_connections_per_address=settings.max_connections_per_address,
        max_calls_per_principal=settings.max_calls_per_principal,
        max_calls_per_tenant=settings.max_calls_per_tenant,
        max_registrations_per_principal=settings.max_registrations_per_principal,
        max_mcp_sessions_per_principal=settings.max_mcp_sessions_per_principal,
    )
