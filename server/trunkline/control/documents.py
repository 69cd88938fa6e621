"""The documents of ``GET /openrpc.json``, ``/openapi.json`` and ``/asyncapi.json``, made from what is served now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from trunkline.control import control_methods
from trunkline.control.asyncapi import asyncapi
from trunkline.control.method import HubView
from trunkline.control.openapi import openapi
from trunkline.control.rpc import CONNECTION_METHODS, discover, served

NOT_OVER_HTTP: Final = frozenset(info.name for info in CONNECTION_METHODS) - {"publish"}


def documents(view: HubView) -> dict[str, Callable[[], dict[str, Any]]]:
    """By path."""
    own = control_methods(view)
    return {
        "/openrpc.json": lambda: discover(served(view, own)),
        "/openapi.json": lambda: openapi(served(view, own), NOT_OVER_HTTP),
        "/asyncapi.json": asyncapi,
    }
