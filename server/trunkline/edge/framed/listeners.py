"""All endpoints of framed peers, Unix sockets and standard input and output; and the files of Unix sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from trunkline.edge.acceptor import Acceptor
from trunkline.edge.context import EdgeContext
from trunkline.edge.framed.dialects import Speech
from trunkline.edge.framed.peer import FramedDoor, FramedPeer
from trunkline.edge.framed.stdio import PARENT, StandardIo
from trunkline.edge.framed.unix import UnixPeers, UnixSocket, answer_the_rest
from trunkline.hub.principal import Principal


class FramedDoors:
    """The endpoints of framed peers: opened together when the hub can serve, closed together when it stops.

    Args:
        context: what all doors of the hub share.
        version: of the hub.
    """

    def __init__(self, context: EdgeContext, version: str) -> None:
        self._context = context
        self._version = version
        self._doors: list[FramedDoor] = []
        self._acceptors: list[Acceptor] = []
        self._sockets: list[UnixSocket] = []

    def make_socket(self, path: Path, mode: int) -> UnixSocket:
        """A Unix socket whose file is removed by :meth:`stop`.

        Raises:
            OSError: as :class:`UnixSocket`.
        """
        made = UnixSocket(path, mode)
        self._sockets.append(made)
        return made

    def listen(self, socket: UnixSocket, speech: Speech, principal: Principal) -> None:
        """Accept framed peers at a Unix socket.

        Args:
            principal: of peers that have not authenticated; PENDING where all of them have to.
        """
        door = FramedDoor(self._context, speech.framing, speech.dialect, self._version, input_over=answer_the_rest)
        self._doors.append(door)
        acceptor = Acceptor(socket.listener, UnixPeers(door, principal).protocol)
        self._acceptors.append(acceptor)
        acceptor.start()

    async def connect(self, standard_io: StandardIo, speech: Speech, over: Callable[[], None]) -> None:
        """Serve the program that started this process, over its standard input and output.

        Args:
            over: called when that program sends nothing more, or is gone.
        """
        loop = asyncio.get_running_loop()

        def ended(_peer: FramedPeer) -> None:
            loop.call_soon(over)

        door = FramedDoor(
            self._context,
            speech.framing,
            speech.dialect,
            self._version,
            input_over=ended,
            left=ended,
            close_seconds=None,  # StandardIo.finish sees to that
        )
        self._doors.append(door)
        await standard_io.connect(FramedPeer(door, PARENT, "stdio"))

    def open(self, causes: list[str]) -> None:
        """Open all gates, so that waiting calls are answered: the hub serves now or, where there are causes, cannot."""
        for door in self._doors:
            door.open(causes)

    def stop(self) -> None:
        """Stop accepting, and remove the sockets' files."""
        for acceptor in self._acceptors:
            acceptor.close()
        for socket in self._sockets:
            socket.remove()
        self._acceptors.clear()
        self._sockets.clear()
