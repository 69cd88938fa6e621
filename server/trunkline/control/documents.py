"""The documents of ``GET /openrpc.json``, ``/openapi.json`` and ``/asyncapi.json``, as of now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trunkline.control.asyncapi import asyncapi
from trunkline.control.method import HubView
from trunkline.control.openapi import openapi
from trunkline.control.rpc import discovered, served


def documents(view: HubView) -> dict[str, Callable[[], dict[str, Any]]]:
    """Functions that make each document, by path."""
    return {
        "/openrpc.json": lambda: discovered(view),
        "/openapi.json": lambda: openapi(served(view)),
        "/asyncapi.json": lambda: asyncapi(view.pool.topics.values()),
    }
