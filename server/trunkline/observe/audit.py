"""The audit log: one JSON line a call, that says who, what and with which outcome, and nothing of the payload.

.. code-block:: json

    {"time":"2026-03-01T09:30:00.123Z","event":"call","principal":"dashboard","tenant":"default","connection":17,
     "peer":"10.0.0.5:50312","method":"vectors.search","outcome":"ok","code":0,"duration_ms":12.345,
     "target":"notes","request_id":"5f3c1b7e0d7a-1a2b"}

``time`` is when the outcome was known. Beside ``call`` there are the events of connections (``connected``,
``refused``, ``disconnected``, ``auth``), those of administration (``config``, ``reload``), and ``lost``, whose
``count`` lines could not be written.

The event loop only formats a line and puts it into a bounded buffer; a thread of its own writes, so that a slow or full
disk never holds up a call. What does not fit, or cannot be written, is counted and reported: in the hub's
log at once, and in the file as soon as that can be written again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from functools import lru_cache
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

_CALL: Final = b'{"time":"%b.%03dZ","event":"call",%b,"method":%b,"outcome":%b,"duration_ms":%.3f%b}\n'
_OK: Final = b'"ok","code":0'
_OUTCOMES: Final = {code: b'"%b","code":%d' % (row.name.encode(), code) for code, row in ERROR_TABLE.items()}

logger = logging.getLogger("trunkline.audit")


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
        self._lines: deque[bytes] = deque()
        # One thread adds and one writes. Each counter is changed by one of them alone, so that they need no lock.
        self._refused = 0
        self._unwritten = 0
        self._reported = 0
        self._awake = False
        self._second, self._prefix = 0, b""
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

    def call(
        self,
        who: bytes,
        method: str,
        code: int,
        seconds: float,
        target: str = "",
        request_id: str = "",
        number: int = 0,
    ) -> None:
        """Write the line of a call that has ended. Never blocks and never raises for what a peer can choose.

        Args:
            who: made by :func:`who_called`.
            method: as the peer named it, served or not.
            code: 0 for success, else the error's code.
            seconds: from receipt to outcome.
            target: what the call is about: a topic, a collection, a job, an executor.
            request_id: under which logs and errors name the call; empty where nothing does.
            number: by which ``system.cancel`` names the call; 0 where nobody has listed it.
        """
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._prefix = second, _time_prefix(second)
        if len(method) > MAX_TEXT_CHARS:
            method = _clean(method)  # what the cache keeps has to be small
        more = _members(target, request_id, number) if target or request_id or number else b""
        outcome = (_OUTCOMES.get(code) or _application_error(code)) if code else _OK
        self._add(_CALL % (self._prefix, (now - second) * 1000, who, _quoted(method), outcome, seconds * 1000, more))

    def event(self, kind: str, **fields: str | int | float | None) -> None:
        """Write the line of another event, for example ``event("refused", peer=..., code=6001, reason=...)``.

        Args:
            kind: the line's ``event``.
            fields: further members. No payload and no token: the caller's duty.
        """
        self._add(_event_line(kind, fields))

    def reopen(self) -> None:
        """Reopen the file under the same path: for SIGHUP, after a rotation. Returns at once."""
        self._reopen_wanted = True
        self._wake()

    def close(self) -> None:
        """Write what waits and close the file; gives up on a disk that does not answer for 2 s."""
        self._closing = True
        self._wake()
        for _ in range(_CLOSE_STEPS):  # a process that stands still for two seconds has not waited for the disk
            self._writer.join(CLOSE_SECONDS / _CLOSE_STEPS)
            if not self._writer.is_alive():
                return
        logger.error("audit log: the disk does not answer; lines are lost", extra={"path": str(self._path)})

    def _add(self, line: bytes) -> None:
        lines = self._lines
        waiting = len(lines)
        if waiting >= self._limit or self._closing:
            self._refused += 1
            if not self._closing:
                self._complain("audit log: the disk is too slow; lines are lost", None)
            return
        lines.append(line)
        if not self._awake:
            self._awake = True
            self._pending.set()
        elif waiting == FLUSH_LINES:
            self._hurry.set()

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
        report = [_event_line("lost", {"count": lost - self._reported})] if lost > self._reported else []
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        written = self._write(report + lines) if report or lines else 0
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


def who_called(
    name: str, tenant: str, connection: int, peer: str, *, via: str = "", runs_as: str = "", actor: str = ""
) -> bytes:
    """The members of a call's line that say who called, as JSON without braces.

    Args:
        name: of the principal.
        tenant: whose principal that is.
        connection: number of the connection.
        peer: ``host:port``.
        via: the method that made the call for this principal; empty where it called itself.
        runs_as: the method with whose rights the call was made; empty where they were the principal's.
        actor: the principal that made the call as this one; empty where this one did.
    """
    said: dict[str, str | int] = {"principal": name, "tenant": tenant, "connection": connection, "peer": peer}
    said |= {key: text for key, text in (("via", via), ("runs_as", runs_as), ("actor", actor)) if text}
    return _encode(said)[1:-1]


def _members(target: str, request_id: str, number: int) -> bytes:
    said = {"target": target, "request_id": request_id, "call": number}
    return b"," + _encode({name: value for name, value in said.items() if value})[1:-1]


def _encode(members: dict[str, Any]) -> bytes:
    said = {name: _clean(value) if isinstance(value, str) else value for name, value in members.items()}
    return msgspec.json.encode(said)


def _time_prefix(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


def _event_line(kind: str, fields: dict[str, str | int | float | None]) -> bytes:
    now = time.time()
    stamp = f"{_time_prefix(int(now)).decode()}.{int(now % 1 * 1000):03d}Z"
    return _encode({"time": stamp, "event": kind, **fields}) + b"\n"


@lru_cache(maxsize=4096)
def _quoted(method: str) -> bytes:
    return msgspec.json.encode(_clean(method))


def _clean(text: str) -> str:
    """A text fit for a line: not too long, and without lone surrogates, which UTF-8 does not have."""
    if len(text) > MAX_TEXT_CHARS:
        text = text[: MAX_TEXT_CHARS - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def _application_error(code: int) -> bytes:
    return b'"APPLICATION_ERROR","code":%d' % code
