"""What a run leaves behind: JSON lines, one file a process, that any language can write.

An **operation** begins with an ``invoke`` line and ends with exactly one of

- ``ok``: it succeeded; ``value`` is what it gave,
- ``fail``: it failed, and surely was not executed (``maybe_executed`` false),
- ``info``: it failed, and may have been executed.

Between them stands what it saw: ``begun``, ``event`` and ``gap`` lines of a subscription. ``state`` lines belong to no
operation: what a client says of its connection. Times are seconds of the machine's monotonic clock, the same for all
its processes.

The **ledger** is written where the work is done: a line for each execution that begins. One ``write`` to a file opened
with ``O_APPEND``: a process that is killed leaves whole lines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import msgspec

Kind = Literal["invoke", "ok", "fail", "info", "begun", "event", "gap", "state"]
What = Literal["call", "stream", "input", "publish", "subscribe", "fault"]
TERMINAL = frozenset({"ok", "fail", "info"})


class Line(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One line of a history. Which members it has depends on ``kind``.

    Attributes:
        op: unique in the run; "" for ``state``.
        what: ``invoke``: which sort of operation.
        method: ``invoke``: of calls, streams and inputs.
        work: ``invoke``: the name under which the ledger knows it, and which events carry: the key where there is one,
            else ``op``. Absent for subscriptions and faults.
        key: ``invoke``: its idempotency key.
        rerun: ``invoke``: who may run it again without being asked: ``hub`` (the method is declared idempotent),
            ``client`` (the caller said so).
        expect: ``invoke``: the value it has to give if it succeeds, or the number of chunks.
        topic: ``invoke`` of publish and subscribe; ``event`` and ``gap``.
        value: ``ok``: what it gave. ``event``: the data. ``state``: the word.
        chunks: terminal lines of streams: ``[index, data]`` of each that was read, in order.
        code: ``fail`` and ``info``: an error code, or a word. ``state``: the close code.
        maybe_executed: ``fail`` and ``info``: as the error said.
        sent_chunks: ``fail`` and ``info`` of streams: how many went out, as the error said.
        epoch: ``event``, ``gap``, ``begun``, and ``ok`` of publish.
        offset: as ``epoch``; for ``gap`` the first that is missing.
        until: ``gap``: the last that is missing.
        resumed: ``state``: whether the session went on.
    """

    time: float
    process: str
    op: str = ""
    kind: Kind
    what: What | None = None
    method: str | None = None
    work: str | None = None
    key: str | None = None
    rerun: tuple[Literal["hub", "client"], ...] = ()
    expect: Any = None
    topic: str | None = None
    value: Any = None
    chunks: list[tuple[int, Any]] | None = None
    code: int | str | None = None
    message: str = ""
    maybe_executed: bool | None = None
    sent_chunks: int | None = None
    epoch: str | None = None
    offset: int | None = None
    until: int | None = None
    reason: str | None = None
    resumed: bool | None = None


class Execution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the ledger: the work began.

    Attributes:
        work: see :attr:`Line.work`.
        life: of the hub: 1 for the first, one more after each restart. 0 where a client did the work.
        by: the process that did it: an executor's pid, or a client's name.
    """

    time: float
    work: str
    life: int
    by: str


_lines = msgspec.json.Decoder(Line)
_executions = msgspec.json.Decoder(Execution)
_encoder = msgspec.json.Encoder()


class Appender:
    """Writes JSON lines; what was written is read by nobody but the checker.

    A process that is killed in the middle of a write may leave the beginning of its line, up to the end of a page.
    So each line begins with a newline, too: what comes behind is whole.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, line: msgspec.Struct) -> None:
        """One line, by one system call."""
        os.write(self._file, b"\n" + _encoder.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._file)


class Sink(Protocol):
    """Takes lines, in order."""

    def write(self, line: msgspec.Struct) -> None: ...
    def close(self) -> None: ...


class Recorder:
    """The history of one process.

    Args:
        process: its name.
        lines: takes the lines, and is closed with the recorder.

    Attributes:
        open: operations without an end so far, with their beginning.
    """

    def __init__(self, process: str, lines: Sink) -> None:
        self.process = process
        self._lines = lines
        self._count = 0
        self.open: dict[str, Line] = {}

    def next_op(self) -> str:
        """A name for the next operation."""
        self._count += 1
        return f"{self.process}:{self._count}"

    def invoke(self, op: str, what: What, **members: Any) -> None:
        """An operation begins."""
        self.open[op] = self._write(op, "invoke", what=what, **members)

    def end(self, op: str, kind: Literal["ok", "fail", "info"], **members: Any) -> None:
        """An operation has its outcome."""
        self.open.pop(op, None)
        self._write(op, kind, **members)

    def saw(self, op: str, kind: Literal["begun", "event", "gap", "state"], **members: Any) -> None:
        """Something on the way."""
        self._write(op, kind, **members)

    def _write(self, op: str, kind: Kind, **members: Any) -> Line:
        line = Line(time=time.monotonic(), process=self.process, op=op, kind=kind, **members)
        self._lines.write(line)
        return line

    def close(self) -> None:
        self._lines.close()


def recorder_in(folder: Path, process: str) -> Recorder:
    """The recorder of a process, which writes its file in a folder of histories."""
    return Recorder(process, Appender(folder / f"{process}.jsonl"))


class BadLine(Exception):
    """A history that cannot be read: file and line are named."""


def read_history(folder: Path) -> list[Line]:
    """All lines of all processes, by time.

    Raises:
        BadLine: one of them is no :class:`Line`.
    """
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in _read(path, _lines)]
    return sorted(lines, key=lambda line: line.time)


def read_ledger(path: Path) -> list[Execution]:
    """What was executed, in the order in which it was written.

    Raises:
        BadLine: one of them is no :class:`Execution`.
    """
    return list(_read(path, _executions)) if path.exists() else []


def _read(path: Path, decoder: msgspec.json.Decoder[Any]) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from _decoded(path, file, decoder)


def _decoded(path: Path, file: IO[bytes], decoder: msgspec.json.Decoder[Any]) -> Iterator[Any]:
    for number, text in enumerate(file, 1):
        if text.startswith((b"{", b"\n")) and not text.endswith(b"}\n"):
            continue  # between two lines, or of a process that was killed while it wrote this
        try:
            yield decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadLine(f"{path}:{number}: {error}: {text[:200]!r}") from error
