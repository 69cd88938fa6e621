"""``rpc.ping`` and ``rpc.discover`` (OpenRPC 1.3)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from trunkline.control.calls import ADMIN_METHODS
from trunkline.control.executors import ORDERS
from trunkline.control.failures import FAILURE_METHOD
from trunkline.control.jobs import JOB_METHODS
from trunkline.control.method import ControlMethod, HubView
from trunkline.control.method import describe as entry
from trunkline.control.schemas import Components
from trunkline.control.topic_list import TOPICS_METHOD
from trunkline.hub.authentication import AuthParams
from trunkline.hub.registrations import RegisterParams, UnregisterParams
from trunkline.hub.subscriptions import PublishParams, SubscribeParams, UnsubscribeParams
from trunkline.version import __version__
from trunkline_protocol.catalogue import MethodInfo

OPENRPC_VERSION = "1.3.2"

CONNECTION_METHODS = (
    entry("auth", "Say who you are, or renew credentials before they expire", AuthParams, idempotent=True),
    entry("subscribe", "Get the events of a topic or pattern on this connection", SubscribeParams, idempotent=True),
    entry("unsubscribe", "Get them no more", UnsubscribeParams, idempotent=True),
    entry("method.register", "Serve a method to other clients", RegisterParams, idempotent=True),
    entry("method.unregister", "Serve it no more", UnregisterParams, idempotent=True),
    entry("publish", "Store an event and deliver it to all who subscribed", PublishParams, idempotent=False),
)
"""Methods that the hub answers for a connection; see SPEC.md."""


def describe(info: MethodInfo, components: Components | None = None) -> dict[str, Any]:
    """One method as an OpenRPC Method Object, with what OpenRPC has no word for under ``x-trunkline``.

    Args:
        components: gets what its schemas define; left out where nobody asks for that.
    """
    components = components or Components()
    extension: dict[str, Any] = {
        "pack": info.pack,
        "streaming": info.streaming,
        "idempotent": info.idempotent,
    }
    if info.chunk is not None:
        extension["chunk"] = components.add(info.chunk)
    if info.input is not None:
        extension["input"] = components.add(info.input)
    if info.routing_key is not None:
        extension["routing_key"] = info.routing_key
    if info.timeout_ms is not None:
        extension["timeout_ms"] = info.timeout_ms
    if info.http is not None:
        extension["http"] = info.http
    if info.runs_as != "caller":
        extension["runs_as"] = info.runs_as
    # OpenRPC wants required parameters first; by name, order means nothing.
    parameters = sorted(info.parameters, key=lambda parameter: not parameter.required)
    return {
        "name": info.name,
        "summary": info.summary,
        "paramStructure": "either" if info.pack != "hub" and parameters == info.parameters else "by-name",
        "params": [{"name": p.name, "required": p.required, "schema": components.add(p.schema)} for p in parameters],
        "result": {"name": "result", "schema": components.add(info.result)},
        "x-trunkline": extension,
    }


def discover(infos: Iterable[MethodInfo]) -> dict[str, Any]:
    """The OpenRPC document."""
    components = Components()
    methods = [describe(info, components) for info in sorted(infos, key=lambda info: info.name)]
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": "Trunkline", "version": __version__},
        "methods": methods,
        "components": {"schemas": components.schemas},
    }


def served(view: HubView, own: Iterable[ControlMethod]) -> list[MethodInfo]:
    """Everything that can be called; ``own`` are the methods of this room."""
    infos = [method.info for method in own]
    hubs = [*CONNECTION_METHODS, *ADMIN_METHODS, *ORDERS, *JOB_METHODS, TOPICS_METHOD, FAILURE_METHOD]
    return [*infos, *hubs, *view.registered(), *view.pool.methods.values()]


def methods(view: HubView, others: Iterable[ControlMethod]) -> list[ControlMethod]:
    """The methods of this file; ``others`` are the hub's other methods, which are described too."""
    own = [
        ControlMethod(
            "rpc.ping", "Answer at once; for clients that cannot send WebSocket pings", lambda _: _pong(view)
        ),
        ControlMethod(
            "rpc.discover",
            "What this hub serves, as an OpenRPC document",
            lambda _: discover(served(view, (*others, *own))),
        ),
    ]
    return own


def _pong(view: HubView) -> dict[str, Any]:
    return {"pong": True, "time_ms": int(time.time() * 1000), "limits": view.limits, "hub": view.hub}
