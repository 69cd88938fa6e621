"""The Starlette application: health for load balancers, metrics for Prometheus, API documents, the dashboard, and the
doors that take calls (``rpc.py``, ``tasks.py``, ``mcp.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from trunkline.edge.access.rules import LOOPBACK, LOOPBACK_ORIGIN, AccessRules, find_token
from trunkline.edge.http.answer import error_headers, json_rpc_error
from trunkline.edge.http.client_packages import client_packages
from trunkline.edge.http.dashboard import dashboard_pages
from trunkline.edge.http.documents import document
from trunkline.edge.http.named_requests import named_requests, request_id_of
from trunkline.edge.http.request import answered, peer_of, wire_of
from trunkline.edge.refusal import Refusal
from trunkline.hub.principal import Handshake, Principal, not_granted
from trunkline_protocol.errors import RpcError
from trunkline_protocol.health_reports import DetailedServices, Health, NamedServiceHealth
from trunkline_protocol.hub_methods import HEALTH_DETAILED, RPC_DISCOVER

logger = logging.getLogger("trunkline.edge")

Endpoint = Callable[[Request], Awaitable[Response]]

NOT_KEPT: Final = {"Cache-Control": "no-store"}

CORS_REQUEST_HEADERS: Final = (
    "Accept", "Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Prefer",
    "Traceparent", "Tracestate", "X-Phoenix-AuthToken", "X-Priority", "X-Request-Id", "X-Timeout-Ms",
    "OpenAI-Organization", "OpenAI-Project", "X-Stainless-Arch", "X-Stainless-Helper-Method", "X-Stainless-Lang",
    "X-Stainless-OS", "X-Stainless-Package-Version", "X-Stainless-Retry-Count", "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version", "X-Stainless-Timeout",  # the npm package openai in a page sends these
)  # fmt: skip
CORS_ANSWER_HEADERS: Final = (
    "ETag", "Preference-Applied", "Retry-After", "Retry-After-Ms", "WWW-Authenticate", "X-Request-Id", "X-Should-Retry",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pages:
    """The contents of the pages that are only read.

    Attributes:
        health: the body of ``GET /health``.
        detailed: the body of ``GET /health/detailed`` for a principal.
        service: the body of ``GET /health/<name>`` for a service elsewhere; None where the settings name no such one.
        ready: the causes why the hub cannot serve; empty where it can.
        metrics: the body of ``GET /metrics``.
        documents: the API documents as JSON, by path.
    """

    health: Callable[[], Health]
    detailed: Callable[[Principal], Awaitable[DetailedServices]]
    service: Callable[[str], NamedServiceHealth | None]
    ready: Callable[[], list[str]]
    metrics: Callable[[Principal], bytes]
    documents: Mapping[str, Callable[[Principal], bytes]]


def http_app(
    access: AccessRules,
    pages: Pages,
    doors: Mapping[str, ASGIApp],
    allowed_origins: Iterable[str] = (),
    refused: Callable[[Refusal], None] = lambda _refusal: None,
) -> ASGIApp:
    """The Starlette application.

    Args:
        access: Host is checked everywhere but on ``/health`` and ``/ready``, which probes request by address; the
            token is checked on ``/metrics``, ``/health/<name>`` and the documents.
        pages: the contents of what is only read.
        doors: ASGI applications that take calls, by path; they check access themselves.
        allowed_origins: whose pages may read the responses (CORS); as in :class:`AccessRules`.
        refused: called for each request that is not let in; the doors tell of theirs themselves.
    """

    def guard(endpoint: Endpoint, method: str | None = None) -> Endpoint:
        return guarded(access, refused, endpoint, method)

    async def get_health(_request: Request) -> Response:
        return _reported(pages.health())

    async def get_ready(_request: Request) -> Response:
        missing = pages.ready()
        body = {"ready": not missing, "causes": missing}
        return JSONResponse(body, status_code=503 if missing else 200, headers=NOT_KEPT)

    async def get_detailed(request: Request) -> Response:
        return _reported(await pages.detailed(request.state.principal))

    async def get_service(request: Request) -> Response:
        report = pages.service(request.path_params["name"])
        if report is None:
            raise HTTPException(404)
        return _reported(report, 200 if report.status == "healthy" else 503)

    async def get_metrics(request: Request) -> Response:
        page = pages.metrics(request.state.principal)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    built = dashboard_pages()
    app = Starlette(
        routes=[
            *(Route(path, door) for path, door in doors.items()),
            Route("/health", get_health),
            Route("/ready", get_ready),
            Route("/health/detailed", guard(get_detailed, HEALTH_DETAILED.name)),
            Route("/health/{name}", guard(get_service, HEALTH_DETAILED.name)),
            Route("/metrics", guard(get_metrics)),
            *(Route(path, guard(document(describe), RPC_DISCOVER.name)) for path, describe in pages.documents.items()),
            *(Route(path, hosted(access, refused, page)) for path, page in (built | client_packages(built)).items()),
        ],
        middleware=cors(allowed_origins),
    )
    return named_requests(app)


def _reported(report: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(report), status, NOT_KEPT, "application/json")


def cors(allowed_origins: Iterable[str]) -> list[Middleware]:
    """The CORS middleware that lets pages of these origins read responses, and send what needs a preflight."""
    origins = [origin.lower().rstrip("/") for origin in allowed_origins]
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_origin_regex=LOOPBACK_ORIGIN.pattern if LOOPBACK in origins else None,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
        )
    ]


def hosted(access: AccessRules, refused: Callable[[Refusal], None], endpoint: Endpoint) -> Endpoint:
    """Wrap an endpoint so that it refuses requests whose ``Host`` is not allowed."""

    async def checked(request: Request) -> Response:
        try:
            if request.client is not None:  # a Unix socket has no hosts to check
                access.check_host(request.headers)
        except RpcError as error:
            return _refuse(request, refused, error)
        return await endpoint(request)

    return checked


def guarded(
    access: AccessRules, refused: Callable[[Refusal], None], endpoint: Endpoint, method: str | None = None
) -> Endpoint:
    """Wrap an endpoint so that it refuses requests without valid credentials; it gets ``request.state.principal``.

    Args:
        method: the method that returns the same; principals that may not call it are refused, too.
    """

    async def checked(request: Request) -> Response:
        headers = request.headers
        try:
            certificate, token = wire_of(request.scope).certificate, find_token(headers)
            handshake = Handshake(request.url.path, peer_of(request.scope), headers, token, certificate=certificate)
            principal = access.admit(await answered(request.scope, handshake, access.prepare(handshake)))
            if method is not None and not principal.may_call(method):
                raise not_granted(principal, "methods", method)
            request.state.principal = principal
        except RpcError as error:
            return _refuse(request, refused, error)
        return await endpoint(request)

    return checked


def _refuse(request: Request, refused: Callable[[Refusal], None], error: RpcError) -> Response:
    scope = request.scope
    refusal = Refusal(peer_of(scope), error, request_id_of(scope), find_token(request.headers))
    logger.warning("request refused", extra=refusal.words())
    refused(refusal)
    return error_response(error)


def error_response(error: RpcError) -> Response:
    """A typed error as an HTTP response, with the status of its row in the error table."""
    return Response(
        json_rpc_error(error),
        status_code=error.row.http_status,
        media_type="application/json",
        headers=error_headers(error),
    )
