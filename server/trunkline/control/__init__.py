"""The hub's own methods about the hub: health, metrics, calls, jobs; they need no executor."""

from __future__ import annotations

from trunkline.control import metrics, rpc, system
from trunkline.control.method import HubView
from trunkline.hub.dispatch import Handlers


def control_methods(view: HubView) -> Handlers:
    """Handlers of the methods that report about the hub as a whole."""
    return system.methods(view) | metrics.methods(view) | rpc.methods(view)


__all__ = ["HubView", "control_methods"]
