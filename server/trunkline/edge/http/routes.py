"""The HTTP doors that take calls over JSON-RPC, as tasks and from OpenAI's clients, and that of events, by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.types import ASGIApp

from trunkline.edge.context import EdgeContext
from trunkline.edge.http import event_source
from trunkline.edge.http.event_source import EventSourceEndpoint
from trunkline.edge.http.exchange import exchange_services
from trunkline.edge.http.openai import door
from trunkline.edge.http.rpc import RpcEndpoint
from trunkline.edge.http.tasks import PREFIX, TaskEndpoint, TaskPaths
from trunkline.hub.authentication import Authentication
from trunkline.hub.router import Router
from trunkline_protocol.catalogue import MethodInfo


def call_doors(
    context: EdgeContext, router: Router, credentials: Authentication, methods: Callable[[], Mapping[str, MethodInfo]]
) -> dict[str, ASGIApp]:
    """The doors at ``/rpc``, ``/api/v1/``, ``/v1/`` and ``/events``, by path.

    Args:
        context: what all connections of the hub share.
        router: knows which methods the hub and clients serve.
        credentials: see :func:`trunkline.edge.http.exchange.exchange_services`.
        methods: the methods that executors serve now, by name.
    """
    services = exchange_services(context.services, credentials)

    def known(name: str, tenant: str) -> object:
        return router.answers(name) or router.backend.find_in(tenant, name)

    return {
        event_source.PATH: EventSourceEndpoint(context, context.services),
        "/rpc": RpcEndpoint(context, services),
        PREFIX + "{path:path}": TaskEndpoint(context, services, TaskPaths(methods, known)),
        door.PREFIX + "{path:path}": door.OpenAIEndpoint(context, services, methods),
    }
