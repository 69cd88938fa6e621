"""Runs an executor in the hub's own process, for debuggers: the same frames over the same kind of wire.

What only a process of its own gives is missing: nothing can be killed, and what blocks the loop, takes memory or the
CPU, blocks or takes the hub's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket

import msgspec
from typing_extensions import override

from trunkline.executors.endings import RestartCause, describe_exit
from trunkline.executors.supervisor import Supervisor

logger = logging.getLogger("trunkline.executors")


class InProcess(Supervisor):
    """Keeps one executor running inside this process."""

    @override
    async def _run_once(self) -> tuple[RestartCause, str]:
        from trunkline.executors.process import serve  # it imports methods, and so what they import

        handle, loop = self._handle, asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._begin()
        handle.pid = os.getpid()
        heard = asyncio.Event()
        handle.on_wire_lost = heard.set
        transport, _ = await loop.create_connection(lambda: handle, sock=ours)
        try:
            code = await serve(theirs, msgspec.structs.replace(self._configuration([]), fresh=True))
            await heard.wait()  # of all that it has said
        finally:
            transport.close()
            handle.pid = None
        return "exit", describe_exit(code)

    @override
    def kill(self, reason: str) -> None:
        logger.warning("%s runs in the hub's process and cannot be killed: %s", self._handle.name, reason)
