"""Everything of one run: a hub in its lives, clients, what they write down, and the network between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from typing_extensions import override

from tests.faults.recorder.history import Execution, Line, Recorder
from tests.faults.recorder.operations import Record
from tests.faults.recorder.workload import Load, Part, Worker
from tests.simulation.connection import Connection, SimulatedLink
from tests.simulation.executors import Machine
from tests.simulation.hub import SETTINGS, SHORT_SESSIONS, SimulatedHub
from tests.simulation.jobs_disk import Disk
from tests.simulation.loop import Process, SimulationLoop
from tests.simulation.network import LATENCY, Trace
from trunkline.client.connection_state import ConnectError
from trunkline.client.engine import Engine
from trunkline.client.hub import MAX_QUEUED, MAX_QUEUED_BYTES, CallDefaults, Hub
from trunkline.client.link import KEEPALIVE_SECONDS, Connector, Link
from trunkline.client.retrying import Reconnect, Retry
from trunkline.hub.callees import KeptMethod
from trunkline_protocol.errors import RpcError

LOAD: Final = Load(lanes=8, pause=0.05, large=6_000, items=12, chunks=8, burst=8, window=4)
"""Many small operations: what they consist of matters, and not how long it is."""

RECONNECT: Final = Reconnect(0.05, 0.5)
RETRY: Final = Retry(attempts=3, base_delay=0.2)

SHORT_SESSIONS_SHARE: Final = 0.2
"""Of the runs, in which sessions end soon after their connection."""


class Lines:
    """Keeps what is written to it.

    Attributes:
        operations: how many have begun.
    """

    def __init__(self) -> None:
        self.operations = 0
        self.history: list[Line] = []
        self.ledger: list[Execution] = []

    def write(self, line: msgspec.Struct) -> None:
        if isinstance(line, Line):
            self.history.append(line)
            self.operations += line.kind == "invoke"
        elif isinstance(line, Execution):
            self.ledger.append(line)

    def close(self) -> None:
        """There is nothing to be closed."""


class Client(Process):
    """A client: its process, and what it does.

    Attributes:
        engine: the parts of the real client, once it is connected.
        hub: the client itself.
        worker: what works with it.
        recorder: what it writes down.
        connection: the latest.
        is_refused: whether no connection of it comes about.
    """

    engine: Engine
    hub: Hub
    worker: Worker

    def __init__(self, loop: SimulationLoop, name: str, lines: Lines) -> None:
        super().__init__(loop, name)
        self.recorder = Recorder(name, lines)
        self.connection: Connection | None = None
        self.is_refused = False

    @override
    def kill(self) -> None:
        super().kill()
        if self.connection is not None:
            self.connection.reset()


class World:
    """See the file.

    Args:
        names: of the clients.

    Attributes:
        hub: its present life, or the last one.
        clients: by name.
        lines: what everybody wrote down.
        disk: that of the hub's jobs.
    """

    def __init__(self, seed: int, names: Sequence[str], say: Callable[[str], None] | None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        self.loop = loop
        self.seed = seed
        self.names = names
        self.dice = random.Random(f"network of {seed}")
        self.trace = Trace(loop, say)
        self.lines = Lines()
        self.machine = Machine(loop, self.trace, self.dice, self.lines)
        self.clients: dict[str, Client] = {}
        self.has_short_sessions = random.Random(f"sessions of {seed}").random() < SHORT_SESSIONS_SHARE
        self.disk = Disk(loop, seed)
        self.hub = self._next_life()
        self._opened = 0

    def _next_life(self) -> SimulatedHub:
        settings = SHORT_SESSIONS if self.has_short_sessions else SETTINGS
        return SimulatedHub(self.loop, self.trace, self.dice, self.machine, settings, self.disk)

    async def start(self, expected: Sequence[KeptMethod] = ()) -> None:
        """Begin the next life of the hub."""
        if self.hub.process.is_dead:
            self.hub = self._next_life()
        self.trace.note(f"{self.hub.process.name} starts")
        await self.hub.start(expected)

    @property
    def record(self) -> Record:
        """What was written down, for the checker; jobs have rules of their own."""
        return Record(self.lines.history, [each for each in self.lines.ledger if not each.work.startswith("job:")])

    @asynccontextmanager
    async def client(self, name: str, serves: str | None = None) -> AsyncIterator[Client]:
        """A client that is connected. In the end it closes the connection, unless it has been killed.

        Args:
            serves: the name that it serves methods under; its own by default.
        """
        client = self.clients[name] = Client(self.loop, name, self.lines)
        await client.begin(self._connect(client, serves or name))
        yield client
        if not client.is_dead:
            await client.begin(client.engine.close())

    async def _connect(self, client: Client, serves: str) -> None:
        async def open_link(_url: str, _token: str | None, *, keepalive: float) -> Link:
            return await self._open(client)

        part = Part(serves, self.seed, self.names, Path(), Path(), load=LOAD)
        connector = Connector(f"simulation:{client.name}", None, 10.0, True, KEEPALIVE_SECONDS, open_link=open_link)
        client.engine = Engine(
            connector,
            reconnect=RECONNECT,
            retry=RETRY,
            random=random.Random(f"{client.name} of {self.seed}").random,
            max_queued=MAX_QUEUED,
            max_queued_bytes=MAX_QUEUED_BYTES,
        )
        await client.engine.reconnector.start(10.0)
        client.hub = Hub(client.engine, CallDefaults())
        client.worker = Worker(client.hub, part, client.recorder, self.lines)

    async def _open(self, client: Client) -> SimulatedLink:
        """A new connection, after as many ways as TCP and HTTP need for it."""
        await asyncio.sleep(4 * self.dice.uniform(*LATENCY))
        if client.is_refused or not self.hub.is_listening:
            raise ConnectionRefusedError("nobody listens")
        self._opened += 1
        try:
            client.connection = self.hub.accept(client, f"{client.name}/{self._opened}")
        except RpcError as refusal:
            raise ConnectError("simulation:", refusal.message, error=refusal) from refusal
        return client.connection.link
