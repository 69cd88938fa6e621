"""``trunkline`` for programs of other languages: a small program that has the fork server start the process instead.

``python -m tests.support.forked_programs COMMAND ...`` runs a command with the path of that program as
``TEST_FORKED_HUB_PROGRAM``. The program has the exit status of the forked process, passes signals on to it, and takes
it along when it is killed; its number is another one, so whoever looks at processes starts the real one.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.fork_server import MAXIMUM, ForkServer, fits, running_server

VARIABLE: Final = "TEST_FORKED_HUB_PROGRAM"

PROGRAM: Final = """#!{python} -IS
import json, os, signal, socket, sys

served = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, {maximum})
served.connect({path!r})
request = {{"program": ["-m", "trunkline.cli", *sys.argv[1:]], "cwd": os.getcwd(), "env": dict(os.environ)}}
request["is_hub"] = sys.argv[1:2] in (["serve"], ["stdio"])
socket.send_fds(served, [json.dumps(request).encode()], [0, 1, 2])
pid = int.from_bytes(served.recv(8), "big")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = int.from_bytes(served.recv(8), "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextlib.contextmanager
def forked_program() -> Iterator[Path | None]:
    """The path of the program while it works; None where processes cannot be forked."""
    if not fits(os.environ):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="trunkline-forked-") as folder:
        path = Path(folder) / "trunkline"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(address := Path(folder) / "requests"))
            path.write_text(PROGRAM.format(python=sys.executable, path=str(address), maximum=MAXIMUM))
            path.chmod(0o700)
            listener.listen(64)
            accepting = threading.Thread(target=_accept, args=(listener, running_server()), daemon=True)
            accepting.start()
            try:
                yield path
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                accepting.join()


def _accept(listener: socket.socket, server: ForkServer) -> None:
    while True:
        try:
            program, _ = listener.accept()
        except OSError:  # no more are wanted
            return
        request, files, _, _ = socket.recv_fds(program, MAXIMUM, 3)
        status, theirs = os.pipe()
        server.start(request, [*files, theirs])
        for fd in (*files, theirs):
            os.close(fd)
        threading.Thread(target=_watch, args=(program, status), daemon=True).start()


def _watch(program: socket.socket, status: int) -> None:
    """Tell a program the number and the exit status of what was started for it; if it is killed, so is that."""
    with program, open(status, "rb", buffering=0) as told, selectors.DefaultSelector() as selector:
        number = told.read(8)
        pid = int.from_bytes(number, "big")
        with contextlib.suppress(BrokenPipeError):
            program.send(number)
        for each in (program, told):
            selector.register(each, selectors.EVENT_READ)
        if told not in [key.fileobj for key, _ in selector.select()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            program.send(told.read(8))


def main() -> int:
    """Run a command while the program works; returns its exit status."""
    with forked_program() as program:
        added = {} if program is None else {VARIABLE: str(program)}
        return subprocess.run(sys.argv[1:], env=os.environ | added, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
