"""What the head of every request has to be, whatever it asks for: one Host and a path; and whose request it is.

Asked by the HTTP protocol before any door sees the request, so that no door can forget it.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.edge.access.rules import UNIX, is_host
from trunkline.edge.http.answer import Answer, error_headers, json_rpc_error, send_answer
from trunkline_protocol.errors import ErrorCode, RpcError

Address = tuple[str, int]
Headers = Sequence[tuple[bytes, bytes]]
"""In order, names in lower case."""

PROBES: Final = frozenset({b"/health", b"/ready"})
"""What proxies and orchestrators look at. It tells nothing that is secret."""

FORWARDED_FOR: Final = "x-forwarded-for"

_BY_PROXIES: Final = frozenset(
    {
        b"forwarded", b"via", b"x-forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-original-host",
        b"x-original-forwarded-for", b"x-envoy-external-address", b"x-proxyuser-ip", b"true-client-ip", b"cdn-loop",
        b"cf-connecting-ip", b"cf-connecting-ipv6", b"cf-ray", b"cf-visitor", b"fastly-client-ip", b"fly-client-ip",
        b"x-appengine-user-ip", b"x-azure-clientip", b"x-azure-socketip",
    }
)  # fmt: skip
"""What proxies add to a request, beside ``X-Forwarded-*``."""

_OPEN: Final = (
    "this hub asks nobody who they are, which is for this machine alone, and the request came through a proxy ({}): "
    "set TRUNKLINE_TOKEN (or TRUNKLINE_TOKENS_FILE, TRUNKLINE_JWT_KEY, TRUNKLINE_AUTHENTICATE), and send the token, or "
    "have the proxy add it"
)

logger = logging.getLogger("trunkline.edge")


class RequestHeads:
    """Judges heads, for one hub.

    Args:
        trusted_proxies: addresses and networks whose ``X-Forwarded-For`` is believed.
        is_open: whether everybody may come in without credentials: then nothing that was forwarded may.
        refused: told the peer and the reason.

    Raises:
        ValueError: one of the proxies is no address or network.
    """

    def __init__(
        self,
        trusted_proxies: Iterable[str] = (),
        *,
        is_open: bool = False,
        refused: Callable[[str, RpcError], None] = lambda _peer, _error: None,
    ) -> None:
        self._trusted = [ipaddress.ip_network(proxy, strict=False) for proxy in trusted_proxies]
        self._is_open = is_open
        self._refused = refused

    def refusal(self, peer: Address | None, url: bytes, version: str, headers: Headers) -> ASGIApp | None:
        """What answers a request that cannot be; None for all others.

        Args:
            peer: see :meth:`origin`.
            url: the target as it stands in the request line.
            version: of HTTP, as ``1.1``.
        """
        fault = host_fault(url, version, headers)
        if fault is None and self._is_open and url.partition(b"?")[0] not in PROBES:
            fault = forwarding_fault(version, headers)
        if fault is None:
            return None
        name = UNIX if peer is None else f"{peer[0]}:{peer[1]}"
        logger.warning("request refused", extra={"peer": name, "reason": fault.message})
        self._refused(name, fault)
        return _answering(fault)

    def origin(self, peer: Address | None, forwarded_for: Sequence[str]) -> Address | None:
        """Who a request is from: the socket's peer or, where that is a trusted proxy, the last it names that is none.

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
            if hop is None:  # what a proxy of ours took from who knows whom
                return peer
            peer = hop
            if not self._trusts(hop):
                return hop
        return peer

    def _trusts(self, peer: Address) -> bool:
        address = ipaddress.ip_address(peer[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)


def host_fault(url: bytes, version: str, headers: Headers) -> RpcError | None:
    """What is wrong with Host and target (RFC 9112, 3.2); None where all is well.

    Where two readers of a request could see different hosts, an allow-list of one of them is none.
    """
    if not url.startswith(b"/") and url != b"*":
        return RpcError(ErrorCode.INVALID_REQUEST, "this hub is no proxy: the request line wants a path alone")
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts and version == "1.0":  # which has none; whether it may come in, the door says
        return None
    if len(hosts) != 1:
        return RpcError(ErrorCode.INVALID_REQUEST, f"the request has {len(hosts)} Host lines; send one")
    if not is_host(hosts[0].decode("latin-1")):
        return RpcError(ErrorCode.INVALID_REQUEST, f"Host {hosts[0]!r:.100} is no host[:port]")
    return None


def forwarding_fault(version: str, headers: Headers) -> RpcError | None:
    """That a request came through a proxy, for a hub that asks nobody who they are; None where it did not.

    Old nginx, unless told otherwise, adds nothing, puts the hub's own address into Host, and speaks HTTP/1.0.
    """
    for name, _value in headers:
        if name in _BY_PROXIES or name.startswith(b"x-forwarded-"):
            return RpcError(ErrorCode.FORBIDDEN, _OPEN.format(name.decode("latin-1")))
    return RpcError(ErrorCode.FORBIDDEN, _OPEN.format("HTTP/1.0")) if version == "1.0" else None


def _address(text: str) -> Address | None:
    """The address of one member of X-Forwarded-For: with or without port, IPv6 with a port in brackets."""
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


def _answering(error: RpcError) -> ASGIApp:
    answer = Answer(
        error.row.http_status,
        json_rpc_error(error),
        {"Connection": "close", "Cache-Control": "no-store"} | error_headers(error),
    )

    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_answer(send, answer)

    return refuse
