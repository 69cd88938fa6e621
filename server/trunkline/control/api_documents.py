"""The documents of ``GET /openrpc.json``, ``/openapi.json`` and ``/asyncapi.json``, as of now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.control.asyncapi import asyncapi
from trunkline.control.method import HubView
from trunkline.control.openapi import openapi
from trunkline.control.rpc import discovered, served
from trunkline.control.sight import may_know
from trunkline_protocol.calls import Caller

_encode: Final = msgspec.json.Encoder().encode


def documents(view: HubView) -> dict[str, Callable[[Caller], bytes]]:
    """Functions that make each document for somebody, as JSON, by path."""
    return {
        "/openrpc.json": lambda who: _encode(discovered(view, who)),
        "/openapi.json": lambda who: _encode(openapi(served(view, who))),
        "/asyncapi.json": lambda who: _encode(asyncapi(may_know(who, view.pool.topics.values()))),
    }
