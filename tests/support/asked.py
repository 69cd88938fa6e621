"""A hub in the test's own loop whose authenticate hook is a coroutine function, and waits for what the test says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from tests.support.timing import START
from trunkline.hub.principal import Handshake, Principal
from trunkline_protocol.errors import ErrorCode, RpcError

if TYPE_CHECKING:
    from trunkline.hosting.lifecycle import HubProcess

REFUSED: Final = "nobody knows you"
HOOK: Final = "the_directory_of_this_hub"


class Directory:
    """Who is let in, by token: ``slow...`` waits for :attr:`gate`, ``hangs...`` for ever.

    Attributes:
        asked: the handshakes, in order.
        ended: the tokens of those that were waited for no longer.
        gate: lets those through that wait.
    """

    def __init__(self) -> None:
        self.asked: list[Handshake] = []
        self.ended: list[str] = []
        self.gate = asyncio.Event()

    async def look_up(self, handshake: Handshake) -> Principal:
        token = handshake.token or ""
        self.asked.append(handshake)
        try:
            if token.startswith("slow"):
                await self.gate.wait()
            elif token.startswith("hangs"):
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.ended.append(token)
            raise
        if "raises" in token:
            raise KeyError(token)
        if "refused" in token or not token:
            raise RpcError(ErrorCode.UNAUTHENTICATED, f"{REFUSED}: {token}")
        return Principal("ann")


class AskingHub:
    """The hub.

    Attributes:
        port, uds: where it is.
        directory: what its hook says.
    """

    def __init__(self, hub: HubProcess, port: int, uds: Path, directory: Directory) -> None:
        self.hub = hub
        self.port = port
        self.uds = uds
        self.directory = directory


@asynccontextmanager
async def asking_hub(folder: Path, **settings: Any) -> AsyncIterator[AskingHub]:
    """A hub that asks a directory; executors there are none but one in this process."""
    # Imported here, for they start no process: see tests/support/unit.py.
    from trunkline.config import GivenSettings
    from trunkline.hosting.lifecycle import HubProcess

    directory, module = Directory(), ModuleType(HOOK)
    vars(module)["authenticate"] = directory.look_up
    sys.modules[HOOK] = module
    given: dict[str, Any] = {
        "port": 0, "packs": (), "executors": 0, "demo": False,
        "data": folder / "data", "uds_framed": folder / "framed", "auth_call": True, "auth_seconds": 10 * START,
        "authenticate": f"{HOOK}:authenticate",
    }  # fmt: skip
    hub = HubProcess(GivenSettings(**(given | settings)))
    listening: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(hub.run(listening.set_result))
    try:
        async with asyncio.timeout(START):
            addresses = await listening
        port = next(address for address in addresses if "://" in address).rpartition(":")[2]
        yield AskingHub(hub, int(port.partition("/")[0]), folder / "framed", directory)
    finally:
        hub.stop()
        async with asyncio.timeout(START):
            await running
