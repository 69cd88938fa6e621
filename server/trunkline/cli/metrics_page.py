"""A hub's metrics page, asked for over HTTP at the URL that its WebSocket has."""

from __future__ import annotations

import contextlib
import http.client
from typing import Final
from urllib.parse import urlsplit

MAX_PAGE: Final = 16 * 2**20
"""Bytes of the page that are read."""


def metrics_page(url: str, token: str | None, seconds: float) -> str:
    """The metrics page of the hub at a WebSocket URL. Follows no redirect: it would carry the token elsewhere.

    Raises:
        LookupError: it is not answered with the page.
        OSError: there is no connection.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss"):
        raise LookupError(f"there is no metrics page at a URL of {parts.scheme}")
    kind = http.client.HTTPSConnection if parts.scheme == "wss" else http.client.HTTPConnection
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with contextlib.closing(kind(parts.hostname or "", parts.port, timeout=seconds)) as connection:
        connection.request("GET", parts.path.rpartition("/")[0] + "/metrics", headers=headers)
        with connection.getresponse() as answer:
            if answer.status != http.client.OK:
                raise LookupError(f"GET /metrics: {answer.status} {answer.reason}")
            return answer.read(MAX_PAGE).decode(errors="replace")
