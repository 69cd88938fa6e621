"""Binds a hub's listening sockets: TCP, a Unix socket for HTTP and WebSocket, one for framed peers."""

from __future__ import annotations

import socket

from trunkline.config import Settings
from trunkline.edge.framed.dialects import Speech
from trunkline.edge.framed.listeners import FramedDoors
from trunkline.hosting.runtime import ConfigurationError, bind
from trunkline.hub.principal import ANONYMOUS, PENDING
from trunkline.settings.served import DEFAULT_PORT


def listen(
    settings: Settings, framed: FramedDoors, *, is_open: bool, has_peer: bool
) -> tuple[list[socket.socket], list[str]]:
    """Bind every listening socket that the settings ask for. Framed peers are accepted from now on.

    Args:
        framed: makes the Unix sockets, and removes their files later.
        is_open: whether peers need no credentials.
        has_peer: whether the hub has a peer at standard input: then, as with a Unix socket, there is no TCP port
            unless the settings name one.

    Returns:
        The sockets to serve HTTP on, and all addresses as text.

    Raises:
        ConfigurationError: an address cannot be bound.
    """
    listeners, addresses = [], []
    has_peer = has_peer or settings.uds is not None or settings.uds_framed is not None
    port = settings.port if settings.port is not None or has_peer else DEFAULT_PORT
    if port is not None:
        listener = bind(settings.host, port)
        listeners.append(listener)
        host, port = listener.getsockname()[:2]
        scheme = "ws" if settings.tls_certificate is None else "wss"
        addresses.append(f"{scheme}://[{host}]:{port}/ws" if ":" in host else f"{scheme}://{host}:{port}/ws")
    try:
        if settings.uds is not None:
            listeners.append(framed.make_socket(settings.uds, settings.uds_mode).listener)
            addresses.append(f"unix:{settings.uds}")
        if settings.uds_framed is not None:
            made = framed.make_socket(settings.uds_framed, settings.uds_mode)
            speech = Speech(settings.uds_framing, settings.uds_dialect)
            framed.listen(made, speech, ANONYMOUS if is_open else PENDING)
            addresses.append(f"unix:{settings.uds_framed} ({speech.framing}, {speech.dialect})")
    except OSError as error:
        raise ConfigurationError(error.strerror or str(error)) from error
    return listeners, addresses
