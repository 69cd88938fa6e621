"""Builds uvicorn's server with all HTTP and WebSocket endpoints of a hub."""

from __future__ import annotations

import functools
import time
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from trunkline.config import Settings
from trunkline.control.api_documents import documents
from trunkline.control.health import heading
from trunkline.control.services import detailed_services, service
from trunkline.edge.http import mcp
from trunkline.edge.http.application import Pages, http_app
from trunkline.edge.http.exchange import exchange_services
from trunkline.edge.http.mcp import McpDoor
from trunkline.edge.http.protocol import BoundedHttpProtocol
from trunkline.edge.http.request_head import RequestHeads
from trunkline.edge.http.routes import call_doors
from trunkline.edge.http.server import HttpServer
from trunkline.edge.phoenix import endpoint as phoenix
from trunkline.edge.phoenix import long_poll
from trunkline.edge.websocket.door import WebSocketDoor
from trunkline.edge.websocket.endpoints import endpoints
from trunkline.edge.websocket.upgrade import UpgradeProtocol
from trunkline.hosting.app import HubParts
from trunkline.observe.page import MetricsPage
from trunkline.version import __version__
from trunkline_protocol.codecs.phoenix_memory import ClientMemories

KEEP_ALIVE_SECONDS: Final = 75
"""How long an HTTP connection may be idle: longer than the pools of common clients and proxies keep theirs."""


def http_server(parts: HubParts) -> tuple[HttpServer, McpDoor]:
    """The HTTP server, not started yet, and its MCP door, which has to be stopped before it."""
    health = parts.health
    page = MetricsPage(parts.stats, parts.readings(), parts.figures.collect, parts.tenant_calls.stats)
    pages = Pages(
        health.open_to_all,
        lambda principal: detailed_services(health, principal),
        lambda name: service(health, name),
        lambda: [heading(cause) for cause in health.missing()],
        lambda principal: page.render(parts.view.sight_of(principal)),
        documents(parts.view),
    )
    doors = call_doors(parts.context, parts.router, parts.authentication, lambda: parts.pool.methods)
    services = exchange_services(parts.context.services, parts.authentication)
    doors[mcp.PATH] = mcp_door = McpDoor(parts.context, services, parts.served, __version__)
    channels = _phoenix_endpoint(parts.settings)
    doors[long_poll.PATH] = long_poll.LongPollEndpoint(parts.context, channels)
    app = http_app(parts.context.access, pages, doors, parts.settings.allowed_origins, parts.refused)
    return HttpServer(_configuration(parts, app, channels), parts.tls), mcp_door


def _phoenix_endpoint(settings: Settings) -> phoenix.PhoenixEndpoint:
    memories = ClientMemories(
        settings.session_seconds,
        settings.max_sessions_per_principal,
        settings.max_sessions,
        settings.max_channels,
        time.monotonic,
    )
    return phoenix.PhoenixEndpoint(settings.max_channels, settings.phoenix_channels, memories)


def _configuration(parts: HubParts, app: ASGIApp, channels: phoenix.PhoenixEndpoint) -> uvicorn.Config:
    settings = parts.settings
    heads = RequestHeads(
        settings.trusted_proxies, is_open=parts.credentials.is_open, refused=parts.refused, shares=parts.shares
    )
    websocket = WebSocketDoor(parts.context, endpoints() | {phoenix.PATH: channels})
    return uvicorn.Config(
        app,
        ws=functools.partial(UpgradeProtocol, websocket, heads),  # type: ignore[arg-type]  # a factory serves, too
        http=functools.partial(BoundedHttpProtocol, heads=heads),  # type: ignore[arg-type]
        proxy_headers=False,  # uvicorn would trust any local process, and for HTTP only; see RequestHeads
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
