"""The doors over HTTP that take calls, by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from trunkline.edge.http.exchange import Watch, exchange_services
from trunkline.edge.http.rpc import RpcEndpoint
from trunkline.edge.http.tasks import PREFIX, TaskEndpoint, TaskPaths
from trunkline.hub.router import Router
from trunkline_protocol.catalogue import MethodInfo

if TYPE_CHECKING:
    from trunkline.edge.websocket.door import WebSocketDoor


def call_doors(
    door: WebSocketDoor, router: Router, credentials: Watch, methods: Callable[[], Mapping[str, MethodInfo]]
) -> dict[str, ASGIApp]:
    """All of them.

    Args:
        door: what all connections of the hub share.
        router: knows what the hub and clients answer.
        credentials: see :func:`trunkline.edge.http.exchange.exchange_services`.
        methods: what executors serve now, by name.
    """
    services = exchange_services(door.services, credentials)

    def known(name: str) -> object:
        return router.answers(name) or router.backend.find(name)

    return {
        "/rpc": RpcEndpoint(door, services),
        PREFIX + "{path:path}": TaskEndpoint(door, services, TaskPaths(methods, known)),
    }
