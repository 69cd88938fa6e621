"""What methods log and print, as records that say which call it was: the executor's side of its output.

The call is the one whose context the code runs in, so that two that run at once are never mistaken for each other. What
native code and child processes write does not come by here, and reaches the pipe as bare lines.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, TextIO

from typing_extensions import override

from trunkline.executors.output_records import (
    MAX_EXCEPTION_CHARS,
    MAX_TEXT_CHARS,
    OutputRecord,
    cut,
    encode_record,
    scalars,
)
from trunkline.log_members import STANDARD
from trunkline.methods.context import CURRENT_CALL
from trunkline.methods.user_errors import Outcome, words_of
from trunkline_protocol.traces import parse

MAX_LINE_CHARS: Final = 2000
MAX_UNFINISHED: Final = 64
"""Calls whose last printed line may lack its end; beyond, the oldest of these lines is told as it is."""

_INSTALLED: Final = re.compile(r".*[/\\](?:site|dist)-packages[/\\](\w+)")
_STDLIB: Final = sysconfig.get_path("stdlib") + os.sep


class RecordWriter:
    """Writes records to the executor's output, one at a time, each whole."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """A child that a method has forked has no thread that would release the lock."""
        self._lock = threading.Lock()

    def write(self, level: str, text: str, **members: Any) -> None:
        """Write one record; it is the running call's, where one runs."""
        context = CURRENT_CALL.get()
        if context is not None:
            metadata = context.metadata
            members |= {
                "call_id": context.call_id,
                "method": context.method,
                "request_id": cut(str(metadata.get("request_id", "")), 200),
                "trace_id": _trace_id(metadata.get("traceparent")),
            }
        line = memoryview(encode_record(OutputRecord(level, cut(text, MAX_TEXT_CHARS), **members)))
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def _trace_id(traceparent: object) -> str:
    trace = parse(traceparent) if isinstance(traceparent, str) else None
    return "" if trace is None else trace.trace_id


class RecordHandler(logging.Handler):
    """Logs to a writer of records.

    Args:
        writer: gets them.
        own: top-level packages of the served modules. Other installed packages are libraries: what they log below
            WARNING is left out, unless the level is DEBUG.
        level: the name of the least level.
    """

    def __init__(self, writer: RecordWriter, own: Sequence[str], level: str) -> None:
        super().__init__()
        self._writer = writer
        self._all = level == "DEBUG"
        self._own = frozenset(own)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and not self._all and self._is_library(record.pathname):
            return
        read = Outcome.of(record.getMessage)
        text = read.result
        if read.error is not None:  # a mistake of the logging line must not be the method's failure
            shown = Outcome.of(repr, record.msg).result or type(record.msg).__name__
            text = f"{shown:.500} (its arguments do not fit: {words_of(read.error)})"
        extra = {name: value for name, value in record.__dict__.items() if name not in STANDARD}
        self._writer.write(
            record.levelname if record.levelno in (10, 20, 30, 40, 50) else _nearest(record.levelno),
            text,
            logger=record.name,
            exception=self._traceback(record),
            extra=scalars(extra),
        )

    def _is_library(self, path: str) -> bool:
        installed = _INSTALLED.search(path)
        return path.startswith(_STDLIB) if installed is None else installed[1] not in self._own

    def _traceback(self, record: logging.LogRecord) -> str:
        if not record.exc_info or record.exc_info[1] is None:
            return ""
        printed = Outcome.of(logging.Formatter().formatException, record.exc_info)
        return cut(words_of(record.exc_info[1]) if printed.error is not None else printed.result, MAX_EXCEPTION_CHARS)


def _nearest(level: int) -> str:
    """The standard level at or below a level of somebody's own."""
    return logging.getLevelName(min(50, max(10, level // 10 * 10)))


class PrintedLines(io.TextIOBase):
    """Standard output or error of an executor: each printed line is a record.

    Args:
        writer: gets them.
        original: the stream that stood here; what is written to its ``buffer`` goes past this.
    """

    def __init__(self, writer: RecordWriter, original: TextIO) -> None:
        self._writer = writer
        self._original = original
        self._unfinished: dict[int, str] = {}
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has it as an attribute
        """The encoding of what is written to ``buffer``."""
        return "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        """The stream of bytes below, for programs that write those."""
        return self._original.buffer

    def reconfigure(self, **_options: Any) -> None:
        """Change nothing: lines are records whatever the options."""

    @override
    def fileno(self) -> int:
        return self._original.fileno()

    @override
    def writable(self) -> bool:
        return True

    @override
    def flush(self) -> None:
        self._original.flush()

    @override
    def write(self, text: str) -> int:
        context = CURRENT_CALL.get()
        key = 0 if context is None else context.call_id
        with self._lock:
            *lines, rest = (self._unfinished.pop(key, "") + text).split("\n")
            rest = rest.rpartition("\r")[2] if not rest.endswith("\r") else rest  # as a terminal would show it
            if len(rest) > MAX_LINE_CHARS:
                lines.append(rest)
                rest = ""
            if rest:
                self._unfinished[key] = rest
            evicted = self._unfinished.pop(next(iter(self._unfinished))) if self._is_full() else ""
        for line in (evicted, *lines):
            self._tell(line)
        return len(text)

    def finish(self) -> None:
        """Tell the lines that lack their end: the process ends."""
        with self._lock:
            lines, self._unfinished = list(self._unfinished.values()), {}
        for line in lines:
            self._tell(line)

    def _is_full(self) -> bool:
        return len(self._unfinished) > MAX_UNFINISHED

    def _tell(self, line: str) -> None:
        shown = line.rstrip("\r\n").rpartition("\r")[2]
        if shown.strip():
            self._writer.write("INFO", shown if len(shown) <= MAX_LINE_CHARS else shown[:MAX_LINE_CHARS] + "…")


def tell_by_records(level: str, modules: Sequence[str]) -> None:
    """Have this process log, warn and print by records from now on.

    Args:
        level: the least level that is logged: ``debug`` to ``error``.
        modules: import paths of the served modules.
    """
    writer = RecordWriter(sys.stderr.fileno())
    own = list({name.partition(".")[0] for name in modules})
    root = logging.getLogger()
    root.handlers[:] = [RecordHandler(writer, own, level.upper())]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    sys.stdout = PrintedLines(writer, sys.stdout)
    sys.stderr = PrintedLines(writer, sys.stderr)


def finish_output() -> None:
    """Tell what was printed without the end of its line, and write what is in buffers: the process ends."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, PrintedLines):
            stream.finish()
        stream.flush()
