"""``system.info``: versions, machine and sizes of the hub."""

from __future__ import annotations

import os
import platform
import sys
import time

import psutil

from trunkline.control.method import HubView
from trunkline.hub.dispatch import Handlers, replying
from trunkline.version import __version__
from trunkline_protocol import WIRE_VERSION
from trunkline_protocol.calls import Caller
from trunkline_protocol.hub_methods import SYSTEM_INFO
from trunkline_protocol.reports import SystemInfo


def info(view: HubView, who: Caller | None) -> SystemInfo:
    """The result of ``system.info``. Nothing in it helps an attacker more than the version does."""
    sight = view.sight_of(who)
    return SystemInfo(
        name="trunkline",
        version=__version__,
        wire_version=WIRE_VERSION,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        implementation=sys.implementation.name,
        pid=os.getpid(),
        cpu_count=os.cpu_count(),
        memory_total_mb=round(psutil.virtual_memory().total / 2**20),
        uptime_seconds=round(time.monotonic() - view.started, 3),
        executors=len(view.pool.snapshot()),
        packs=sorted({method.pack for method in view.pool.methods.values()}),
        methods=len(view.pool.methods),
        connections=view.connections_of(sight.tenant) if sight.is_apart else view.connections(),
    )


def methods(view: HubView) -> Handlers:
    """The handler of ``system.info``."""
    return replying(SYSTEM_INFO, lambda call, _params: info(view, call.caller()))
