"""Methods the hub answers itself, executors dead or not."""

from __future__ import annotations

from trunkline.control import health, metrics, rpc, system
from trunkline.control.method import ControlMethod, HubView


def control_methods(view: HubView) -> list[ControlMethod]:
    """All methods of this room, over one hub."""
    methods = [*health.methods(view), *system.methods(view), *metrics.methods(view)]
    return [*methods, *rpc.methods(view, methods)]


__all__ = ["ControlMethod", "HubView", "control_methods"]
