"""``/mcp``: every method as a tool of the Model Context Protocol, over streamable HTTP, with the official package.

That package takes longer to import than the whole hub, so it is imported when the first client connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from trunkline.background import start_task
from trunkline.edge.http.answer import Refused, send_refusal
from trunkline.edge.http.body import PAYLOAD_TOO_LARGE, PeerLeft, read_body
from trunkline.edge.http.exchange import Exchange, ExchangeServices, Reply
from trunkline.edge.http.named_requests import request_id_of
from trunkline.edge.http.request import acting_as, admit, peer_of
from trunkline.edge.refusal import Refusal
from trunkline.hub.principal import Principal
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.values import json_is_too_much, too_much

if TYPE_CHECKING:
    import mcp_types
    from mcp.server.context import ServerRequestContext
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from trunkline.edge.context import EdgeContext

PATH: Final = "/mcp"
PROGRESS_TOKEN: Final = "mcp"  # noqa: S105  # no secret: it asks for reports
MAX_SESSIONS: Final = 1024
SESSION_HEADER: Final = "mcp-session-id"
"""Names the session of a request; without it a request opens one."""
_PRINCIPAL: Final = "trunkline.principal"

logger = logging.getLogger("trunkline.edge")


class McpDoor:
    """The ASGI application of :data:`PATH`.

    Args:
        context: what all connections of the hub share.
        services: see :func:`trunkline.edge.http.exchange.exchange_services`.
        methods: what is served now, the hub's and clients' own methods included.
        version: of the hub.
    """

    def __init__(
        self,
        context: EdgeContext,
        services: ExchangeServices,
        methods: Callable[[str], Iterable[MethodInfo]],
        version: str,
    ) -> None:
        self._context = context
        self._services = services
        self._methods = methods
        self._version = version
        self._manager: StreamableHTTPSessionManager | None = None
        self._running: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to :data:`PATH`."""
        try:
            headers = Headers(scope=scope)
            principal = admit(self._context, scope, headers)
            manager = await self._started()
            if SESSION_HEADER not in headers:
                self._require_session(manager, principal, scope)
            if scope["method"] == "POST":
                body = await read_body(self._context, principal, headers, receive)
                if json_is_too_much(body):
                    raise Refused(too_much("the body", ErrorCode.INVALID_REQUEST), PAYLOAD_TOO_LARGE)
                receive = _replayed(body, receive)
        except Refused as refused:
            await send_refusal(send, refused)
            return
        except PeerLeft:
            return
        scope[_PRINCIPAL] = principal
        scope["user"] = _owner(principal)  # the package lets only the principal that opened an MCP session use it
        await manager.handle_request(scope, receive, send)

    def _require_session(self, manager: StreamableHTTPSessionManager, principal: Principal, scope: Scope) -> None:
        own = principal.owner
        open_now = sum(owner["client_id"] == own for owner in manager._session_owners.values())
        try:
            self._context.services.shares.require_mcp_session(principal, open_now)
        except RpcError as error:
            self._context.refused(Refusal(peer_of(scope), error, request_id_of(scope)))
            raise Refused(error) from error

    async def stop(self) -> None:
        """End all MCP sessions."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def _started(self) -> StreamableHTTPSessionManager:
        async with self._starting:
            if self._manager is None or (self._running is not None and self._running.done()):
                if importlib.util.find_spec("mcp") is None:
                    error = RpcError(
                        ErrorCode.MISSING_DEPENDENCIES,
                        "the package for MCP is not installed: pip install 'trunkline[mcp]'",
                    )
                    raise Refused(error)
                self._manager = self._make()
                ready = asyncio.Event()
                self._running = start_task(self._run(self._manager, ready), "MCP")
                await ready.wait()
                if self._running.done():
                    await self._running  # raises what kept it from starting
            return self._manager

    def _make(self) -> StreamableHTTPSessionManager:
        from mcp.server.lowlevel.server import Server
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        server: Server[Any] = Server(
            "trunkline", version=self._version, on_list_tools=self._list_tools, on_call_tool=self._call_tool
        )
        return StreamableHTTPSessionManager(
            server, max_request_body_size=self._context.max_message_bytes, max_sessions=MAX_SESSIONS
        )

    @staticmethod
    async def _run(manager: StreamableHTTPSessionManager, ready: asyncio.Event) -> None:
        try:
            async with manager.run():
                ready.set()
                await asyncio.Event().wait()
        finally:
            ready.set()

    # --- handlers of MCP requests ---

    async def _list_tools(
        self, context: ServerRequestContext[Any, Any], _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        import mcp_types

        from trunkline.edge.http.mcp_tools import tool

        principal = _principal(context)
        methods = self._methods(principal.tenant)
        known = {info.name: info for info in methods if info.input is None and principal.may_call(info.name)}
        return mcp_types.ListToolsResult(tools=[tool(info) for _, info in sorted(known.items())])

    async def _call_tool(
        self, context: ServerRequestContext[Any, Any], params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        from trunkline.edge.http.mcp_tools import ToolOutcome

        request = context.request
        assert request is not None  # HTTP has one always
        services, peer = self._services.of(takes_events=True), peer_of(request.scope)
        exchange = Exchange(self._context, services, _principal(context), peer, "mcp")
        outcome = ToolOutcome(context.session.report_progress)
        try:
            metadata: dict[str, Any] = {
                "progress_token": PROGRESS_TOKEN,
                "request_id": request_id_of(request.scope),
                **acting_as(request.headers),
            }
            traceparent = (context.meta or {}).get("traceparent")
            if isinstance(traceparent, str):
                metadata["traceparent"] = traceparent
            reply = await exchange.call(params.name, params.arguments or {}, metadata, outcome.notified)
        except RpcError as error:
            reply = Reply(error=error.to_wire())
        except Refused as refused:
            reply = Reply(error=refused.error.to_wire())
        return outcome.result(reply)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """An ASGI ``receive`` that gives a body that was read already, then what ``receive`` gives."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


def _principal(context: ServerRequestContext[Any, Any]) -> Principal:
    assert context.request is not None, "HTTP has a request always"
    principal: Principal = context.request.scope[_PRINCIPAL]
    return principal


def _owner(principal: Principal) -> object:
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    # The token stays empty: the package compares the client's id only, and should not hold a secret.
    return AuthenticatedUser(AccessToken(token="", client_id=principal.owner, scopes=[]))
