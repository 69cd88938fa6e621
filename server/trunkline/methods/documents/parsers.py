"""Processes that read documents for an executor (:mod:`trunkline.methods.documents.parsing`), and what ends them.

Each is killed where a document takes longer than the hub's operator says, whatever it does then, and another is started
for the next document. None has the executor's environment, in which there are secrets.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import orjson

from trunkline import ErrorCode, RpcError
from trunkline.methods.documents.blocks import Block, Unreadable
from trunkline.methods.documents.parsing import LENGTH, Request
from trunkline.methods.documents.split import Parsed, Passage

AT_ONCE: Final = 4
"""Documents that are read at the same time by an executor: one that takes long is no reason for others to wait."""
IDLE: Final = 60.0
"""Seconds for which a process waits for the next document."""
START: Final = 60.0
"""Seconds that a process may take to start."""
MAX_ANSWER: Final = 512 * 2**20
TICK: Final = 0.2
"""Seconds after which a cancelled call is seen."""
SETTING: Final = "TRUNKLINE_DOCUMENT_SECONDS"
MEMORY_SETTING: Final = "TRUNKLINE_DOCUMENT_MEGABYTES"

_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HF_HOME",
                "HF_HUB_CACHE", "XDG_CACHE_HOME", "TESSDATA_PREFIX")  # fmt: skip
_SET: Final = {
    "HF_HUB_OFFLINE": "1",  # the executor has fetched what there is to fetch
    "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1", "MALLOC_ARENA_MAX": "2",
}  # fmt: skip


class Parsers:
    """The processes of an executor. Threads may use it at the same time, :data:`AT_ONCE` of them.

    Args:
        seconds: for one document.
        megabytes: of memory for one process.
    """

    def __init__(self, seconds: float, megabytes: int) -> None:
        self._seconds = seconds
        self._megabytes = megabytes
        self._lock = threading.Lock()
        self._idle: list[_Parser] = []
        self._timer: threading.Timer | None = None
        self._closed = False

    def parse(self, request: Request, check: Callable[[], None]) -> Parsed:
        """Read and split a document.

        Args:
            check: called now and then; what it raises ends the process, and is raised.

        Raises:
            Unreadable: there is no text to be had.
            RpcError: 3003, it took too much time or memory, or its parser crashed.
        """
        with self._borrowed() as parser:
            found = parser.ask(request, check)
        if "memory" in found:
            raise RpcError(
                ErrorCode.PIPELINE_EXECUTION_ERROR,
                f"it takes more than {self._megabytes:,} MiB of memory to read: split it, leave it out, or give "
                f"documents more ({MEMORY_SETTING})",
            )
        if "error" in found:
            raise Unreadable(found["error"])
        return Parsed(found["title"], found["note"], [*map(_passage, found["passages"])], found["pages"])

    @contextmanager
    def _borrowed(self) -> Iterator[_Parser]:
        with self._lock:
            parser = self._idle.pop() if self._idle else None
        if parser is None:
            parser = _Parser(self._seconds, self._megabytes)
        try:
            yield parser
        except BaseException:
            parser.kill()
            raise
        with self._lock:
            if parser.is_spent or self._closed:
                parser.kill()
                return
            self._idle.append(parser)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(IDLE, self._end_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for parser in idle:
            parser.kill()

    def close(self) -> None:
        """End the processes that wait; those that read end when they are told to, or their time is over."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self._end_idle()


class _Parser:
    """One process."""

    def __init__(self, seconds: float, megabytes: int) -> None:
        self._seconds = seconds
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _SET
        environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        run = "from trunkline.methods.documents.parsing import main; main()"
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-c", run, str(megabytes), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, env=environment,
            start_new_session=True,  # so that what it starts can be ended with it
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        for end in (self._to, self._from):
            os.set_blocking(end, False)
        self.pid = self._process.pid
        self.is_spent = self._is_ready = False

    def ask(self, request: Request, check: Callable[[], None]) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            RpcError: 3003, there is none: its time is over, or the process has ended.
        """
        if not self._is_ready:  # starting takes as long as the machine likes, and is no document's fault
            self._exchange(memoryview(b""), START, check)
            self._is_ready = True
        content = pickle.dumps(request)
        question = memoryview(LENGTH.pack(len(content)) + content)
        found: dict[str, Any] = orjson.loads(self._exchange(question, self._seconds, check))
        self.is_spent = "memory" in found
        return found

    def _exchange(self, left: memoryview, seconds: float, check: Callable[[], None]) -> bytes:
        """Send what is left of a question, and receive the answer."""
        until = time.monotonic() + seconds
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            if left:
                selector.register(self._to, selectors.EVENT_WRITE)
            while len(received) < LENGTH.size or len(received) < LENGTH.size + self._length(received):
                check()
                if (remaining := until - time.monotonic()) <= 0:
                    raise _too_slow(seconds)
                for key, _ in selector.select(min(TICK, remaining)):
                    if key.fd == self._from:
                        received += self._read()
                    elif not (left := left[self._written(left) :]):
                        selector.unregister(self._to)
        return bytes(received[LENGTH.size :])

    def _length(self, received: bytearray) -> int:
        length: int = LENGTH.unpack_from(received)[0]
        if length > MAX_ANSWER:
            raise self._ended()
        return length

    def _read(self) -> bytes:
        if not (part := os.read(self._from, 2**20)):
            raise self._ended()
        return part

    def _written(self, left: memoryview) -> int:
        try:
            return os.write(self._to, left[: 2**20])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> RpcError:
        self.kill()
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 and -code in signal.valid_signals() else f"exit code {code}"
        return RpcError(
            ErrorCode.PIPELINE_EXECUTION_ERROR,
            f"the process that read it has ended ({how}): leave it out, or split it; the others are not affected",
        )

    def kill(self) -> None:
        """End the process, and what it has started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def _passage(said: dict[str, Any]) -> Passage:
    blocks = tuple(Block(**block) for block in said["blocks"])
    return Passage(**said | {"headings": tuple(said["headings"]), "blocks": blocks})


def _too_slow(seconds: float) -> RpcError:
    return RpcError(
        ErrorCode.PIPELINE_EXECUTION_ERROR,
        f"it was not read after {seconds:.3g} s: split it, leave it out, or give documents more time ({SETTING})",
    )
