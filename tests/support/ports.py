"""A port that is a test's own while nobody listens there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of the loopback that only who asks for its number gets, for the length of a ``with`` block.

    Connections to it are refused until somebody listens. Nobody gets it by chance: neither who listens on a port of the
    system's choice, nor who connects somewhere, which could even be itself.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: one that listens may share it
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
