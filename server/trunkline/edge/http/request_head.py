"""Checks of every request's head, whatever its path: one Host, a path as target; and the address a request is from.

The HTTP protocol runs them before any door sees the request, so that no door can forget them.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.edge.access.rules import UNIX, is_host
from trunkline.edge.http.answer import HttpAnswer, error_headers, json_rpc_error, send_answer
from trunkline.edge.http.named_requests import REQUEST_ID
from trunkline.edge.refusal import Refusal
from trunkline.hub.shares import Shares
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.request_ids import request_id_for

Address = tuple[str, int]
Headers = Sequence[tuple[bytes, bytes]]
"""Names and values in their order, names in lower case."""

PROBES: Final = frozenset({b"/health", b"/ready"})
"""Paths that proxies and orchestrators poll; what they show is no secret."""

FORWARDED_FOR: Final = "x-forwarded-for"

_BY_PROXIES: Final = frozenset(
    {
        b"forwarded", b"via", b"x-forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-original-host",
        b"x-original-forwarded-for", b"x-envoy-external-address", b"x-proxyuser-ip", b"true-client-ip", b"cdn-loop",
        b"cf-connecting-ip", b"cf-connecting-ipv6", b"cf-ray", b"cf-visitor", b"fastly-client-ip", b"fly-client-ip",
        b"x-appengine-user-ip", b"x-azure-clientip", b"x-azure-socketip",
    }
)  # fmt: skip
"""Headers that proxies add to a request, beside ``X-Forwarded-*``."""

_OPEN: Final = (
    "this hub has no authentication, which is for local clients only, and the request came through a proxy ({}): "
    "set TRUNKLINE_TOKEN (or TRUNKLINE_TOKENS_FILE, TRUNKLINE_JWT_KEY, TRUNKLINE_AUTHENTICATE), and send the token, or "
    "have the proxy add it"
)

logger = logging.getLogger("trunkline.edge")


class RequestHeads:
    """Checks the heads of requests to one hub.

    Args:
        trusted_proxies: addresses and networks whose ``X-Forwarded-For`` is trusted.
        is_open: whether peers need no credentials: then requests that came through a proxy are refused.
        refused: called for each refused request.
        shares: count the sockets of each address, and limit them.

    Raises:
        ValueError: one of the proxies is not an address or network.
    """

    def __init__(
        self,
        trusted_proxies: Iterable[str] = (),
        *,
        is_open: bool = False,
        refused: Callable[[Refusal], None] = lambda _refusal: None,
        shares: Shares | None = None,
    ) -> None:
        self.shares = shares or Shares()
        self._trusted = [ipaddress.ip_network(proxy, strict=False) for proxy in trusted_proxies]
        self._is_open = is_open
        self._refused = refused

    def refusal(self, peer: Address | None, url: bytes, version: str, headers: Headers) -> ASGIApp | None:
        """An ASGI application that refuses the request; None where its head is valid.

        Args:
            peer: see :meth:`origin`.
            url: the target, as in the request line.
            version: of HTTP, as ``1.1``.
        """
        fault = host_fault(url, version, headers)
        if fault is None and self._is_open and url.partition(b"?")[0] not in PROBES:
            fault = forwarding_fault(version, headers)
        if fault is None:
            return None
        address = UNIX if peer is None else f"{peer[0]}:{peer[1]}"
        given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), None)
        refusal = Refusal(address, fault, request_id_for(given))
        logger.warning("request refused", extra=refusal.words())
        self._refused(refusal)
        return answering(refusal)

    def origin(self, peer: Address | None, forwarded_for: Sequence[str]) -> Address | None:
        """The address a request is from: the socket's peer or, behind trusted proxies, the last untrusted hop.

        Args:
            peer: of the socket; None for a Unix socket.
            forwarded_for: the lines of ``X-Forwarded-For``.

        Returns:
            The address; its port is 0 where the proxy named none.
        """
        if peer is None or not self._trusted or not self._trusts(peer):
            return peer
        for text in reversed(",".join(forwarded_for).split(",")):
            hop = _address(text.strip())
            if hop is None:  # not an address: a trusted proxy passed on what an untrusted peer sent
                return peer
            peer = hop
            if not self._trusts(hop):
                return hop
        return peer

    def own_address(self, peer: Address | None) -> str | None:
        """The peer of a socket as ``host:port``; None for a trusted proxy, which has many clients, or a Unix socket."""
        return None if peer is None or (self._trusted and self._trusts(peer)) else f"{peer[0]}:{peer[1]}"

    def _trusts(self, peer: Address) -> bool:
        address = ipaddress.ip_address(peer[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)


def host_fault(url: bytes, version: str, headers: Headers) -> RpcError | None:
    """The error of a request's Host or target (RFC 9112, 3.2); None where both are valid.

    Where a proxy and the hub could see different hosts in one request, the proxy's allow-list would protect nothing.
    """
    if not url.startswith(b"/") and url != b"*":
        return RpcError(ErrorCode.INVALID_REQUEST, "this hub is not a proxy: the request target must be a path")
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts and version == "1.0":  # HTTP/1.0 has no Host; the access rules decide on that
        return None
    if len(hosts) != 1:
        return RpcError(ErrorCode.INVALID_REQUEST, f"the request has {len(hosts)} Host headers; send one")
    if not is_host(hosts[0].decode("latin-1")):
        return RpcError(ErrorCode.INVALID_REQUEST, f"Host {hosts[0]!r:.100} is not host[:port]")
    return None


def forwarding_fault(version: str, headers: Headers) -> RpcError | None:
    """The error of a request that came through a proxy to a hub without authentication; None for a direct request.

    nginx, unless configured otherwise, adds no header and puts the hub's own address into Host, but speaks HTTP/1.0.
    """
    for name, _value in headers:
        if name in _BY_PROXIES or name.startswith(b"x-forwarded-"):
            return RpcError(ErrorCode.FORBIDDEN, _OPEN.format(name.decode("latin-1")))
    return RpcError(ErrorCode.FORBIDDEN, _OPEN.format("HTTP/1.0")) if version == "1.0" else None


def _address(text: str) -> Address | None:
    """The address in one member of X-Forwarded-For, with or without port; None where it is not an address."""
    host, port = text, "0"
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":") or "0"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        return None


def answering(refusal: Refusal) -> ASGIApp:
    """An ASGI application that answers with an error, and closes the connection."""
    error = refusal.error
    answer = HttpAnswer(
        error.row.http_status,
        json_rpc_error(error),
        {"Connection": "close", "Cache-Control": "no-store", REQUEST_ID: refusal.request_id} | error_headers(error),
    )

    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_answer(send, answer)

    return refuse
