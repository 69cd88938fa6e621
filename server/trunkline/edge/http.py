"""The HTTP door: health for load balancers, metrics for Prometheus, a first page for people."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from trunkline.edge.access import AccessRules, find_token
from trunkline.hub.principal import Handshake
from trunkline_protocol.errors import ErrorCode, RpcError

Report = Callable[[], dict[str, Any]]
Endpoint = Callable[[Request], Awaitable[Response]]

FIRST_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Trunkline</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;
padding:0 1rem}code,pre{font-family:ui-monospace,monospace}pre{padding:1rem;border:1px solid;overflow:auto}</style>
<h1>Trunkline</h1><p>This hub is running. Its WebSocket is at <code>/ws</code>: plain JSON-RPC 2.0.</p>
<p>Open this page's console and paste:</p><pre id="try"></pre>
<p><a href="/health">/health</a> · <a href="/ready">/ready</a> · <a href="/metrics">/metrics</a></p>
<script src="/first-page.js"></script></html>"""

FIRST_PAGE_SCRIPT = """document.getElementById("try").textContent =
`const ws = new WebSocket("${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws");
ws.onmessage = (event) => console.log(JSON.parse(event.data));
ws.onopen = () => ws.send('{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}');`;
"""


def http_app(
    access: AccessRules, health: Report, ready: Callable[[], list[str]], metrics: Callable[[], bytes]
) -> Starlette:
    """The Starlette application.

    Args:
        access: Host is checked everywhere but on ``/health`` and ``/ready``, which probes ask by address;
            the token is checked on ``/metrics``.
        health: the body of ``GET /health``.
        ready: what is missing until the hub can serve; empty when it can.
        metrics: the body of ``GET /metrics``.
    """

    async def get_health(_request: Request) -> Response:
        return JSONResponse(health())

    async def get_ready(_request: Request) -> Response:
        missing = ready()
        body = {"ready": not missing, "causes": missing}
        return JSONResponse(body, status_code=503 if missing else 200)

    async def get_metrics(_request: Request) -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def get_first_page(_request: Request) -> Response:
        return HTMLResponse(
            FIRST_PAGE, headers={"Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'"}
        )

    async def get_first_page_script(_request: Request) -> Response:
        return Response(FIRST_PAGE_SCRIPT, media_type="text/javascript")

    return Starlette(
        routes=[
            Route("/health", get_health),
            Route("/ready", get_ready),
            Route("/metrics", guarded(access, get_metrics)),
            Route("/", hosted(access, get_first_page)),
            Route("/first-page.js", hosted(access, get_first_page_script)),
        ]
    )


def hosted(access: AccessRules, endpoint: Endpoint) -> Endpoint:
    """Let an endpoint answer only under an allowed ``Host``."""

    async def checked(request: Request) -> Response:
        try:
            access.check_host(request.headers)
        except RpcError as error:
            return error_response(error)
        return await endpoint(request)

    return checked


def guarded(access: AccessRules, endpoint: Endpoint) -> Endpoint:
    """Let an endpoint answer only to those who may come in."""

    async def checked(request: Request) -> Response:
        headers = request.headers
        peer = f"{request.client.host}:{request.client.port}" if request.client else "unix"
        try:
            access.admit(Handshake(request.url.path, peer, headers, find_token(headers)))
        except RpcError as error:
            return error_response(error)
        return await endpoint(request)

    return checked


def error_response(error: RpcError) -> Response:
    """A typed error as an HTTP answer, with the status of its row in the error table."""
    headers = {"WWW-Authenticate": "Bearer"} if error.code == ErrorCode.UNAUTHENTICATED else None
    return Response(
        json.dumps({"jsonrpc": "2.0", "id": None, "error": error.to_wire()}),
        status_code=error.row.http_status,
        media_type="application/json",
        headers=headers,
    )
