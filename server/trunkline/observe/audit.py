"""The audit log: one JSON line a call, that says who, what and with which outcome, and nothing of the payload.

.. code-block:: json

    {"time":"2026-03-01T09:30:00.123456Z","event":"call","principal":"dashboard","tenant":"default","connection":17,
     "peer":"10.0.0.5:50312","method":"vectors.search","outcome":"ok","code":0,"duration_ms":12.345,
     "target":"notes","request_id":"5f3c1b7e0d7a-1a2b"}

``time`` is when the outcome was known. Beside ``call`` there are the events of connections (``connected``,
``refused``, ``disconnected``, ``auth``), those of administration (``config``, ``reload``), and ``lost``, whose
``count`` lines could not be written.

The event loop only puts what a line says into a bounded buffer; a thread of its own encodes and writes, so that a slow
or full disk never holds up a call. What does not fit, or cannot be written, is counted and reported: in the hub's log
at once, and in the file as soon as that can be written again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline.observe.audit_file import AuditFile, Rotation
from trunkline_protocol.errors import ERROR_TABLE

BUFFER_LINES: Final = 32_768
"""What may wait for the disk: some 10 MB, since what peers choose of a line is cut to a few hundred characters."""

FLUSH_LINES: Final = 4096
"""So much is written at once: each time the writer wakes it takes the interpreter from the event loop."""
FLUSH_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 1.0
REPORT_SECONDS: Final = 30.0
"""Between two errors in the hub's log about the same trouble."""

CLOSE_SECONDS: Final = 2.0
_CLOSE_STEPS: Final = 20
MAX_TEXT_CHARS: Final = 256
"""Of a method, name or reason; peers choose methods."""

PLAIN_BYTES: Final = 1024
"""Of a line in which no text can be so long that it matters."""

OUTCOMES: Final = {0: "ok", **{code: row.name for code, row in ERROR_TABLE.items()}}
"""Code -> the ``outcome`` of a line; codes of an application's own are not in it."""
APPLICATION_ERROR: Final = "APPLICATION_ERROR"

_encoder: Final = msgspec.json.Encoder()
logger = logging.getLogger("trunkline.audit")


class CallLine(msgspec.Struct, omit_defaults=True, gc=False):
    """The line of a call that has ended.

    Attributes:
        time: when the outcome was known.
        event: ``call``.
        connection: its number.
        peer: ``host:port``.
        method: as the peer named it, served or not.
        outcome: of :data:`OUTCOMES`.
        code: 0 for success, else the error's code.
        duration_ms: from receipt to outcome.
        via: the method that made the call for this principal; empty where it called itself.
        runs_as: the method with whose rights the call was made; empty where they were the principal's.
        actor: the principal that made the call as this one; empty where this one did.
        target: what the call is about: a topic, a collection, a job, an executor.
        request_id: under which logs and errors name the call; empty where nothing does.
        call: the number by which ``system.cancel`` names the call; 0 where nobody has listed it.
    """

    time: datetime
    event: str
    principal: str
    tenant: str
    connection: int
    peer: str
    method: str
    outcome: str
    code: int
    duration_ms: float
    via: str = ""
    runs_as: str = ""
    actor: str = ""
    target: str = ""
    request_id: str = ""
    call: int = 0


class AuditLog:
    """Appends to one file, which only its owner may read. To be used from one thread, the event loop's.

    Args:
        path: the file; made with mode 0600 where there is none.
        rotation: when a new file is begun; by default never.
        buffer_lines: bound of what waits to be written.

    Raises:
        ValueError: the file cannot be opened.
    """

    def __init__(self, path: Path, rotation: Rotation | None = None, *, buffer_lines: int = BUFFER_LINES) -> None:
        self._path = path
        self._limit = buffer_lines
        try:
            self._file = AuditFile(path, rotation or Rotation())
        except OSError as error:
            raise ValueError(f"TRUNKLINE_AUDIT_FILE: {path}: cannot be opened: {error.strerror}") from error
        self._lines: deque[CallLine | dict[str, Any]] = deque()
        # One thread adds and one writes. Each counter is changed by one of them alone, so that they need no lock.
        self._refused = 0
        self._unwritten = 0
        self._reported = 0
        self._awake = False
        self._reopen_wanted = False
        self._closing = False
        self._pending = threading.Event()
        self._hurry = threading.Event()
        self._failing = False
        self._complained = -REPORT_SECONDS
        self._writer = threading.Thread(target=self._write_until_closed, name="trunkline-audit", daemon=True)
        self._writer.start()

    @property
    def lost(self) -> int:
        """The number of lines that could not be written since the start."""
        return self._refused + self._unwritten

    def event(self, kind: str, **fields: str | int | float | None) -> None:
        """Write the line of another event, for example ``event("refused", peer=..., code=6001, reason=...)``.

        Args:
            kind: the line's ``event``.
            fields: further members. No payload and no token: the caller's duty.
        """
        self.add(_event(kind, fields))

    def reopen(self) -> None:
        """Reopen the file under the same path: for SIGHUP, after a rotation. Returns at once."""
        self._reopen_wanted = True
        self._wake()

    def close(self) -> None:
        """Write what waits and close the file; gives up on a disk that does not answer for 2 s."""
        self._closing, self._limit = True, 0
        self._wake()
        for _ in range(_CLOSE_STEPS):  # a process that stands still for two seconds has not waited for the disk
            self._writer.join(CLOSE_SECONDS / _CLOSE_STEPS)
            if not self._writer.is_alive():
                return
        logger.error("audit log: the disk does not answer; lines are lost", extra={"path": str(self._path)})

    def add(self, line: CallLine | dict[str, Any]) -> None:
        """Have a line written. Never blocks, and never raises for what a peer can choose.

        Args:
            line: what only it holds of what peers choose is cut (:func:`clean`), so that what waits is bounded.
        """
        lines = self._lines
        waiting = len(lines)
        if waiting >= self._limit:
            self._refuse()
            return
        lines.append(line)
        if not self._awake:
            self._awake = True
            self._pending.set()
        elif waiting == FLUSH_LINES:
            self._hurry.set()

    def _refuse(self) -> None:
        self._refused += 1
        if not self._closing:
            self._complain("audit log: the disk is too slow; lines are lost", None)

    def _wake(self) -> None:
        self._pending.set()
        self._hurry.set()

    def _write_until_closed(self) -> None:
        closing = False
        while not closing:
            self._pending.wait(RETRY_SECONDS if self.lost > self._reported else None)
            self._hurry.wait(FLUSH_SECONDS)
            self._pending.clear()
            self._hurry.clear()
            closing = self._closing  # read ahead of the last flush, which then has every line
            self._awake = False  # ahead of taking: a line that comes later wakes us again
            try:
                self._flush()
            except Exception:  # whatever it is, the next lines count
                logger.exception("audit log: lines could not be written", extra={"path": str(self._path)})
        self._file.close()

    def _flush(self) -> None:
        if self._reopen_wanted:
            self._reopen_wanted = False
            self._reopen()
        lost = self.lost
        report = [_event("lost", {"count": lost - self._reported})] if lost > self._reported else []
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        written = self._write(_encoded([*report, *lines])) if report or lines else 0
        if written >= len(report):
            self._reported = lost
        self._unwritten += len(lines) - max(0, written - len(report))

    def _write(self, lines: list[bytes]) -> int:
        """Write lines; how many of them are in the file as a whole."""
        written, error = self._file.write(lines)
        if error is None:
            if self._failing:
                logger.warning("audit log: is written again", extra={"lost": self.lost})
        elif written < len(lines):
            self._complain("audit log: cannot be written; lines are lost", error)
        else:
            self._complain("audit log: no new file can be begun; going on in the old file", error)
        self._failing = written < len(lines)
        return written

    def _reopen(self) -> None:
        try:
            self._file.reopen()
        except OSError as error:
            self._complain("audit log: cannot be opened again; going on in the old file", error)

    def _complain(self, what: str, error: OSError | None) -> None:
        now = time.monotonic()
        if now - self._complained >= REPORT_SECONDS:
            self._complained = now
            reason = None if error is None else error.strerror
            logger.error(what, extra={"path": str(self._path), "lost": self.lost, "reason": reason})


def _encoded(lines: Sequence[CallLine | dict[str, Any]]) -> list[bytes]:
    """Lines as JSON, without line ends: of a batch in which all is as it mostly is, none is looked at."""
    try:
        encoded = list(map(_encoder.encode, lines))
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 does not have
        encoded = []
    if encoded and max(map(len, encoded)) <= PLAIN_BYTES:
        return encoded
    return [_encoder.encode(_cleaned(line)) for line in lines]


def _cleaned(line: CallLine | dict[str, Any]) -> CallLine | dict[str, Any]:
    if isinstance(line, dict):
        return line  # was cleaned when it was made
    members = msgspec.structs.asdict(line)
    texts: dict[str, Any] = {name: clean(value) for name, value in members.items() if isinstance(value, str)}
    return msgspec.structs.replace(line, **texts)


def _event(kind: str, fields: dict[str, str | int | float | None]) -> dict[str, Any]:
    said = {name: clean(value) if isinstance(value, str) else value for name, value in fields.items()}
    return {"time": datetime.fromtimestamp(time.time(), UTC), "event": kind, **said}


def clean(text: str) -> str:
    """A text fit for a line: not too long, and without lone surrogates, which UTF-8 does not have."""
    if len(text) > MAX_TEXT_CHARS:
        text = text[: MAX_TEXT_CHARS - 1] + "…"
    return text.encode("utf-8", "replace").decode()
