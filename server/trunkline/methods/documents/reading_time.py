"""Limits how long reading one document may take, whatever time its caller gave: files come from anywhere.

When the time is over, an exception in the reader's thread ends what is written in Python. What hangs in native code
does not get it, and may hold the interpreter, so that no Python in this process could end it: a little later a thread
of C (faulthandler's) ends the process, and the hub starts another. The document's version is in a file then, so that
the call, when it runs again, passes this one over and does the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from trunkline import ErrorCode, RpcError

GRACE: Final = 10.0
"""Seconds, or as many as a document has, for what was told that its time is over, until the process ends."""
AGAIN_EVERY: Final = 0.25
"""Libraries may drop the exception on its way."""
REMEMBERED: Final = 3600.0
"""Seconds for which a document that ended a process is not read."""
SETTING: Final = "TRUNKLINE_DOCUMENT_SECONDS"

Result = TypeVar("Result")

logger = logging.getLogger("trunkline.documents")


class _TimeIsOver(BaseException):
    """No Exception: libraries catch those to go on."""


class ReadingTime:
    """The time limit of one reader, and the errors of documents that exceeded it.

    Args:
        seconds: of one document.
        notes: a folder for what ends processes; None where this process is not the reader's to end.
    """

    def __init__(self, seconds: float, notes: Path | None = None) -> None:
        self._seconds = seconds
        self._notes = notes
        self._note: int | None = None
        self._told: set[str] = set()

    def run(self, version: str, function: Callable[[], Result]) -> Result:
        """Call a function on this thread, within the time limit.

        Args:
            version: what tells this document from others.

        Raises:
            RpcError: 3003, the function was not done in time.
        """
        watch = _Watch(self._seconds)
        self._arm(version)
        try:
            try:
                return function()
            finally:
                watch.end()
        except _TimeIsOver:
            watch.surely_end()
            raise RpcError(
                ErrorCode.PIPELINE_EXECUTION_ERROR,
                f"it was not read after {self._seconds:.3g} s: split it, leave it out, or give documents more time "
                f"({SETTING})",
            ) from None
        finally:
            if self._notes is not None:
                faulthandler.cancel_dump_traceback_later()

    def _arm(self, version: str) -> None:
        if self._notes is None:
            return
        limit = self._seconds + min(GRACE, self._seconds)
        try:
            if self._note is None:
                self._notes.mkdir(parents=True, exist_ok=True)
                path = self._notes / f"reading-{os.getpid()}-{secrets.token_hex(4)}"
                self._note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._note, 0)
            os.write(self._note, f"{version}\n".encode())
        except OSError:  # a full disk: the process ends all the same, and its hub counts what ran then
            logger.warning("what is read cannot be noted in %s", self._notes, exc_info=True)
            faulthandler.dump_traceback_later(limit, exit=True)
            return
        faulthandler.dump_traceback_later(limit, file=self._note, exit=True)

    def refusals(self) -> dict[str, RpcError]:
        """The errors of documents that ended a process lately, by version."""
        if self._notes is None:
            return {}
        refused = {}
        for path in self._notes.glob("reading-*"):
            with contextlib.suppress(OSError):  # another process has looked, too
                version, _, stack = path.read_text(errors="replace").partition("\n")
                age = time.time() - path.stat().st_mtime
                if (stack and age > REMEMBERED) or (not stack and not _is_alive(path)):
                    path.unlink()
                elif stack:
                    self._tell(path, stack)
                    refused[version] = RpcError(
                        ErrorCode.PIPELINE_EXECUTION_ERROR,
                        f"it kept a parser busy for more than {self._seconds:.3g} s, and that ended an executor: "
                        f"leave it out, or split it; it is tried again in {1 + (REMEMBERED - age) / 60:.0f} minutes",
                    )
        return refused

    def _tell(self, path: Path, stack: str) -> None:
        if path.name not in self._told:
            self._told.add(path.name)
            logger.warning("reading a document was not over in time and has ended an executor; it was at\n%s", stack)


class _Watch:
    """Raises an exception in the thread that made it, when its time is over, until it is ended."""

    def __init__(self, seconds: float) -> None:
        self._thread = ctypes.c_ulong(threading.get_ident())
        self._lock = threading.Lock()
        self._over = False
        self._begin(seconds)

    def _begin(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._raise)
        timer.daemon = True
        self._timer = timer
        timer.start()

    def _raise(self) -> None:
        with self._lock:
            if not self._over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread, ctypes.py_object(_TimeIsOver))
                self._begin(AGAIN_EVERY)

    def end(self) -> None:
        """End the watch. From its return on nothing is raised; meanwhile that may happen."""
        with self._lock:
            self._over = True
            self._timer.cancel()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread, None)  # what is raised and not there yet

    def surely_end(self) -> None:
        """End the watch where the time is over, so that :meth:`end` itself may be interrupted."""
        while True:
            try:
                self.end()
                return
            except _TimeIsOver:
                continue


def _is_alive(path: Path) -> bool:
    try:
        os.kill(int(path.name.split("-")[1]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
