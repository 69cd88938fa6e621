"""Access rules: Host and Origin allow-lists, and where a request has its token. Pure; checked before any upgrade."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from trunkline.hub.principal import AnsweredHandshake, Authenticate, Handshake, Prepare, Principal, nothing_to_ask
from trunkline_protocol import SUBPROTOCOL
from trunkline_protocol.codecs import msgpack
from trunkline_protocol.errors import ErrorCode, RpcError

BEARER_SUBPROTOCOL: Final = "trunkline.bearer."
"""Browsers cannot set headers on a WebSocket; they offer this plus the base64url token as a subprotocol."""

SUBPROTOCOLS: Final = (SUBPROTOCOL, msgpack.SUBPROTOCOL)

UNIX: Final = "unix"
"""The ``peer`` of a handshake that came through a Unix socket."""

_HOST: Final = re.compile(
    r"(\[[0-9A-Fa-f:.]+(%[\w.~%-]+)?\]|([A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+)(:[0-9]{0,5})?", re.ASCII
)
"""``uri-host [":" port]`` of RFC 9110, 7.2, without the punctuation that no name has."""

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

LOOPBACK: Final = "loopback"
"""Stands among the origins for all pages that this machine serves, whatever the port: development servers."""

LOOPBACK_ORIGIN: Final = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.ASCII)


class AccessRules:
    """The allow-lists of one hub.

    Args:
        hosts: names (no port) that ``Host`` may have; ``*`` allows all. Guards against DNS rebinding.
        origins: origins that browsers may come from, as ``scheme://host[:port]``; ``*`` allows all, ``loopback`` those
            of this machine. A request without ``Origin`` is no browser and is let in; so is a page the hub itself
            served.
        authenticate: the hook of :data:`trunkline.hub.principal.Authenticate`.
        prepare: see :data:`trunkline.hub.principal.Prepare`; None where there is nothing to wait for.

    Attributes:
        may_wait: whether doors have to :meth:`prepare` before they admit a peer.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        origins: Iterable[str],
        authenticate: Authenticate,
        prepare: Prepare | None = None,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._authenticate = authenticate
        self._prepare = prepare or nothing_to_ask
        self.may_wait = prepare is not None

    def prepare(self, handshake: Handshake) -> Coroutine[Any, Any, AnsweredHandshake] | None:
        """What to await before :meth:`admit`; see :data:`trunkline.hub.principal.Prepare`."""
        if not self.may_wait:
            return None
        try:
            self.check_address(handshake)
        except RpcError:
            return None
        return self._prepare(handshake)

    def admit(self, handshake: Handshake) -> Principal:
        """The principal of a peer that is let in.

        Raises:
            RpcError: 6002 for a host or origin that is not allowed, 6001 for missing or wrong credentials.
        """
        self.check_address(handshake)
        return self._authenticate(handshake)

    def check_address(self, handshake: Handshake) -> None:
        """Refuse a ``Host`` or ``Origin`` that is not allowed (6002). Through a Unix socket any ``Host`` will do."""
        if handshake.peer != UNIX:
            self.check_host(handshake.headers)
        self._check_origin(handshake.headers)

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a ``Host`` that is not allowed (6002)."""
        host = host_name(headers.get("host", ""))
        if "*" not in self._hosts and host not in self._hosts:
            raise RpcError(ErrorCode.FORBIDDEN, f"host {host!r:.100} is not allowed; add it to TRUNKLINE_ALLOWED_HOSTS")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return
        if is_same_host(origin, headers.get("host", "")):
            return
        if LOOPBACK in self._origins and LOOPBACK_ORIGIN.fullmatch(origin.lower()):
            return
        raise RpcError(
            ErrorCode.FORBIDDEN, f"origin {origin!r:.100} is not allowed; add it to TRUNKLINE_ALLOWED_ORIGINS"
        )


def is_same_host(origin: str, host: str) -> bool:
    """Whether a page of this origin came from this host (and port)."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """Whether a ``Host`` header is one name or address, with or without a port, and nothing else."""
    return _HOST.fullmatch(text) is not None


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without port and brackets, in lower case; the whole text where it is not valid."""
    host = host.strip().lower()
    if not is_host(host):
        return host
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def find_token(headers: Mapping[str, str]) -> str | None:
    """The bearer token of a request: ``Authorization`` first, else the subprotocol browsers use."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    for offered in offered_subprotocols(headers):
        if offered.startswith(BEARER_SUBPROTOCOL):
            encoded = offered.removeprefix(BEARER_SUBPROTOCOL)
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return None
    return None


def offered_subprotocols(headers: Mapping[str, str]) -> list[str]:
    """The subprotocols that ``Sec-WebSocket-Protocol`` offers, in order."""
    return [part.strip() for part in headers.get("sec-websocket-protocol", "").split(",") if part.strip()]


def choose_subprotocol(headers: Mapping[str, str]) -> str | None:
    """The subprotocol to answer with, the first of the client's that the hub speaks; None where it offered none.

    Raises:
        RpcError: -32600 where the peer wants only versions this hub does not speak.
    """
    offered = offered_subprotocols(headers)
    for name in offered:
        if name in SUBPROTOCOLS:
            return name
    unknown = [name for name in offered if name.startswith("trunkline.v")]
    if unknown:
        raise RpcError(
            ErrorCode.INVALID_REQUEST,
            f"this hub speaks {', '.join(SUBPROTOCOLS)}, the client offers {', '.join(unknown):.200}",
        )
    return None
