"""Unix sockets: the socket's file, and the framed peers that connect to it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from typing_extensions import override

from trunkline.edge.framed.peer import FramedDoor, FramedPeer
from trunkline.edge.framed.stream import attach
from trunkline.edge.refusal import Refusal
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.errors import RpcError

LOOK_SECONDS: Final = 0.05
"""Seconds between two looks at a peer that has shut down its sending side: whether it is gone or fully answered."""

MAX_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103
"""What ``struct sockaddr_un`` holds. (A longer path could be made by renaming, but nobody could connect to it.)"""

_UCRED: Final = struct.Struct("3i")


class UnixSocket:
    """A listening socket with its file, which exists from now until :meth:`remove`.

    Args:
        path: of the file. One that a hub has left behind is replaced.
        mode: permission bits of the file.

    Raises:
        OSError: another process listens there, another kind of file is there, or it cannot be made; the message names
            the path.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._made = self._listen(mode)
        except OSError:
            self.listener.close()
            raise
        self.listener.setblocking(False)

    def _listen(self, mode: int) -> tuple[int, int]:
        """Bind and listen under another name, then rename: no client meets a file with other rights, or a deaf socket.

        Returns the device and inode of the file.
        """
        if len(os.fsencode(self.path)) > MAX_PATH_BYTES:
            raise OSError(f"{self.path} is too long for a Unix socket's path: at most {MAX_PATH_BYTES} bytes")
        making = self.path.with_name(f".{os.getpid():x}")
        with _locked(self.path.parent):
            _require_unused(self.path)
            with contextlib.suppress(FileNotFoundError):
                making.unlink()
            try:
                self.listener.bind(str(making))
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {self.path}: {error.strerror or error}") from error
            making.chmod(mode)
            self.listener.listen(2048)
            making.rename(self.path)
        return _identity(self.path)

    def remove(self) -> None:
        """Remove the file, unless another hub has put its own in its place."""
        with contextlib.suppress(OSError), _locked(self.path.parent):
            if _identity(self.path) == self._made:
                self.path.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder: two hubs must not both find the same file unused, and replace each other's."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _require_unused(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} exists and is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise OSError(f"cannot tell whether {path} is in use: {error}") from error
    raise FileExistsError(f"{path} is in use: another process listens there")


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


class UnixPeers:
    """Makes a framed peer for each connection of a Unix socket.

    Args:
        door: what all of them share.
        principal: of peers that have not authenticated; PENDING where all of them have to.
    """

    def __init__(self, door: FramedDoor, principal: Principal) -> None:
        self._door = door
        self._principal = principal

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one new connection."""
        return _Newcomer(self)

    def connected(self, transport: asyncio.Transport) -> None:
        """Attach a peer to a new connection, or refuse it with an error where there are too many."""
        context, name = self._door.context, _name_of(transport)
        try:
            context.check_room(name)
            if self._principal is PENDING:
                context.require_pending(name)
            else:
                context.services.shares.require_connection(self._principal)
        except RpcError as error:
            context.refused(Refusal(name, error))
            refusal, encode = self._door.dialect().refuse(error), self._door.framing().encode
            transport.write(b"".join([encode(frame.payload) for frame in refusal]))
            transport.close()
            return
        attach(transport, FramedPeer(self._door, self._principal, name))


class _Newcomer(asyncio.Protocol):
    """The protocol of a connection until its peer is attached."""

    def __init__(self, peers: UnixPeers) -> None:
        self._peers = peers

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peers.connected(transport)  # type: ignore[arg-type]  # uvloop's is an asyncio.Transport by shape only


def answer_the_rest(peer: FramedPeer) -> None:
    """Close the stream of a peer that has shut down its sending side, once its calls are answered or it is gone."""
    if peer.ended is not None:
        return
    if peer.has_hung_up():
        peer.abort()
    elif peer.is_idle:
        peer.close(1000, "")
    else:
        asyncio.get_running_loop().call_later(LOOK_SECONDS, answer_the_rest, peer)


def _name_of(transport: asyncio.Transport) -> str:
    """A peer's name: ``unix:<pid>`` where the system tells who connected (Linux), else ``unix``."""
    if not hasattr(socket, "SO_PEERCRED"):
        return "unix"
    credentials = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, _uid, _gid = _UCRED.unpack(credentials)
    return f"unix:{pid}"
