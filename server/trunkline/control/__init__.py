"""Methods the hub answers itself, executors dead or not."""

from __future__ import annotations

from trunkline.control import health, metrics, rpc, system
from trunkline.control.method import HubView
from trunkline.hub.dispatch import Handlers


def control_methods(view: HubView) -> Handlers:
    """What tells of the hub as a whole, by name."""
    return health.methods(view) | system.methods(view) | metrics.methods(view) | rpc.methods(view)


__all__ = ["HubView", "control_methods"]
