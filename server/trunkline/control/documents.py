"""The documents of ``GET /openrpc.json``, ``/openapi.json`` and ``/asyncapi.json``, as of now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.control.asyncapi import asyncapi
from trunkline.control.method import HubView
from trunkline.control.openapi import openapi
from trunkline.control.rpc import discovered, served

_encode: Final = msgspec.json.Encoder().encode


def documents(view: HubView) -> dict[str, Callable[[], bytes]]:
    """Functions that make each document, as JSON, by path."""
    return {
        "/openrpc.json": lambda: _encode(discovered(view)),
        "/openapi.json": lambda: _encode(openapi(served(view))),
        "/asyncapi.json": lambda: _encode(asyncapi(view.pool.topics.values())),
    }
