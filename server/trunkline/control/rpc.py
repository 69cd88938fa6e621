"""``rpc.ping`` and ``rpc.discover`` (OpenRPC 1.3)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from trunkline.control.method import HubView, listed_methods, schema_of
from trunkline.control.monitoring_topics import TOPICS
from trunkline.control.schemas import Components
from trunkline.control.sight import may_know, may_use
from trunkline.hub.dispatch import Handlers, replying
from trunkline.version import __version__
from trunkline_protocol.calls import Caller
from trunkline_protocol.catalogue import CLIENT_PACK, DeclaredError, MethodInfo, TopicInfo
from trunkline_protocol.errors import ERROR_TABLE
from trunkline_protocol.hub_methods import METHODS, RPC_DISCOVER, RPC_PING
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.reports import (
    DescribedTopic,
    OpenRpcComponents,
    OpenRpcDocument,
    OpenRpcExtension,
    OpenRpcInfo,
    Pong,
)

OPENRPC_VERSION = "1.3.2"


def describe(info: MethodInfo, components: Components | None = None) -> dict[str, Any]:
    """The OpenRPC Method Object of a method; properties unknown to OpenRPC are under ``x-trunkline``.

    Args:
        components: gets the definitions of the schemas; None to discard them.
    """
    components = components or Components()
    extension: dict[str, Any] = {
        "pack": info.pack,
        "streaming": info.streaming,
        "idempotent": info.idempotent,
    }
    if info.pack == CLIENT_PACK:
        extension["open"] = info.open
    if info.chunk is not None:
        extension["chunk"] = components.add(info.chunk)
    if info.chunks is not None:
        extension["chunks"] = {kind: components.add(schema) for kind, schema in info.chunks.items()}
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
    if info.recovery:
        extension["recovery"] = info.recovery
    # OpenRPC wants required parameters first; by name, order means nothing.
    parameters = sorted(info.parameters, key=lambda parameter: not parameter.required)
    described = {
        "name": info.name,
        "summary": info.summary,
        "paramStructure": "either" if parameters == info.parameters and not _is_by_name(info) else "by-name",
        "params": [{"name": p.name, "required": p.required, "schema": components.add(p.schema)} for p in parameters],
        "result": {"name": "result", "schema": components.add(info.result)},
        "x-trunkline": extension,
    }
    return described | {"errors": [_error(each, components) for each in info.errors]} if info.errors else described


def _error(declared: DeclaredError, components: Components) -> dict[str, Any]:
    """The OpenRPC Error Object of a declared error; the schema of its data is ours."""
    row = ERROR_TABLE.get(declared.code)
    described = {"code": declared.code, "message": "APPLICATION_ERROR" if row is None else row.name}
    data = {} if declared.data is None else {"x-trunkline": {"data": components.add(declared.data)}}
    return described | data


def _is_by_name(info: MethodInfo) -> bool:
    if info.pack == CLIENT_PACK:  # its handler gets the params as they are
        return bool(info.parameters)
    return info.pack == "hub" and METHODS[info.name].is_clients_own


def discover(infos: Iterable[MethodInfo], topics: Iterable[TopicInfo] = ()) -> OpenRpcDocument:
    """The OpenRPC document.

    Args:
        topics: what modules declare, beside the hub's own.
    """
    components = Components()
    methods = [describe(info, components) for info in sorted(infos, key=lambda info: info.name)]
    own = {topic: DescribedTopic(words, schema_of(data)) for topic, (words, data) in TOPICS.items()}
    told = {
        topic.pattern: DescribedTopic(topic.summary, components.add(topic.data))
        for topic in sorted(topics, key=lambda topic: topic.pattern)
    }
    return OpenRpcDocument(
        OPENRPC_VERSION,
        OpenRpcInfo("Trunkline", __version__),
        methods,
        OpenRpcComponents(components.schemas),
        OpenRpcExtension(own | told),
    )


def served(view: HubView, who: Caller | None) -> list[MethodInfo]:
    """The catalogue entries of all methods that somebody may call: of the hub, of clients, of executors."""
    tenant = DEFAULT_TENANT if who is None else who.tenant
    methods = *listed_methods(), *view.registered(tenant), *view.pool.methods.values()
    return [info for info in methods if may_use(who, info.name)]


def discovered(view: HubView, who: Caller | None) -> OpenRpcDocument:
    """The OpenRPC document of a hub for somebody, as of now."""
    return discover(served(view, who), may_know(who, view.pool.topics.values()))


def methods(view: HubView) -> Handlers:
    """Handlers of ``rpc.ping`` and ``rpc.discover``."""
    return replying(RPC_PING, lambda _call, _params: _pong(view)) | replying(
        RPC_DISCOVER, lambda call, _params: discovered(view, call.caller())
    )


def _pong(view: HubView) -> Pong:
    return Pong(True, int(time.time() * 1000), view.limits, view.hub, view.idempotency_epoch)
