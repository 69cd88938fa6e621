"""What an executor prints, as lines of the hub's log: attributed, bounded in rate, and never in anybody's way.

The pipe is always read to its end, so that no print ever blocks for want of a reader; what is too much is counted and
left out. :class:`OutputLines` is pure; :class:`OutputReader` is the pipe's end in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

LINES_PER_SECOND: Final = 100
BURST_BYTES: Final = 64 * 1024
"""Of text in one second, beside the lines."""

MAX_LINE_BYTES: Final = 2000
REPORT_SECONDS: Final = 1.0

_OURS: Final = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]+): ")
"""How :mod:`trunkline.executors.process` writes what is logged in it."""

logger = logging.getLogger("trunkline.executors.output")


class OutputLines:
    """Cuts bytes into lines and lets only so many pass. The clock is an argument.

    Attributes:
        lines_left_out, bytes_left_out: not said, since they were last taken.
    """

    def __init__(self) -> None:
        self._partial = b""
        self._overlong = False
        self._second = -1
        self._lines = 0
        self._bytes = 0
        self.lines_left_out = 0
        self.bytes_left_out = 0

    def feed(self, data: bytes, now: float) -> list[str]:
        """Bytes from the pipe. Returns the lines that may be said, without their ends."""
        if int(now) != self._second:
            self._second, self._lines, self._bytes = int(now), 0, 0
        if self._is_spent():
            return self._leave_out(data)
        *lines, last = (self._partial + data).split(b"\n")
        if self._overlong:
            if not lines:
                self.bytes_left_out += len(last)
                return []
            self.bytes_left_out += len(lines.pop(0))
            self._overlong = False
        self._partial = last
        if len(last) > MAX_LINE_BYTES:
            lines.append(last)
            self._partial, self._overlong = b"", True
        return [self._text(line) for line in lines if line.strip() and self._passes(line)]

    def end(self) -> list[str]:
        """The pipe is at its end: what was no whole line."""
        last, self._partial = self._partial, b""
        return [self._text(last)] if last.strip() else []

    def take_left_out(self) -> tuple[int, int]:
        """Lines and bytes that were not said since the last time."""
        left_out = self.lines_left_out, self.bytes_left_out
        self.lines_left_out = self.bytes_left_out = 0
        return left_out

    def _is_spent(self) -> bool:
        return self._lines >= LINES_PER_SECOND or self._bytes >= BURST_BYTES

    def _passes(self, line: bytes) -> bool:
        if self._is_spent():
            self.lines_left_out += 1
            self.bytes_left_out += len(line)
            return False
        self._lines += 1
        self._bytes += min(len(line), MAX_LINE_BYTES)
        return True

    def _leave_out(self, data: bytes) -> list[str]:
        """Only count: this has to be quicker than anything can print."""
        end = data.rfind(b"\n")
        self.lines_left_out += data.count(b"\n")
        if end < 0:
            self._overlong = True
            self.bytes_left_out += len(self._partial) + len(data)
            self._partial = b""
        else:
            self.bytes_left_out += len(self._partial) + end
            self._partial, self._overlong = data[end + 1 :][:MAX_LINE_BYTES], False
        return []

    def _text(self, line: bytes) -> str:
        text = line[:MAX_LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
        if len(line) > MAX_LINE_BYTES:
            self.bytes_left_out += len(line) - MAX_LINE_BYTES
            return text + "…"
        return text


class OutputReader(asyncio.Protocol):
    """Reads one process's output and logs it.

    Args:
        describe: asked with each portion whose it is: further members of the log records.
    """

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        self._describe = describe
        self._lines = OutputLines()
        self._level = logging.INFO
        self._reporting: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()

    def data_received(self, data: bytes) -> None:
        """Something was printed."""
        self._say(self._lines.feed(data, time.monotonic()))
        if self._lines.bytes_left_out and self._reporting is None:
            self._reporting = self._loop.call_later(REPORT_SECONDS, self._report)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody can print any more."""
        self._say(self._lines.end())
        self._report()
        if not self.ended.done():
            self.ended.set_result(None)

    def _say(self, lines: list[str]) -> None:
        if not lines:
            return
        extra = self._describe()
        for line in lines:
            logger.log(self._level_of(line), "%s", line, extra=extra)

    def _level_of(self, line: str) -> int:
        """That of the child's own log; what is indented, as a traceback is, belongs to the line before."""
        ours = _OURS.match(line)
        if ours is not None:
            self._level = logging.getLevelNamesMapping()[ours[1]]
        elif not line.startswith((" ", "\t", "Traceback ")) and not _ENDS_TRACEBACK.match(line):
            self._level = logging.INFO
        return self._level

    def _report(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        lines, size = self._lines.take_left_out()
        if size or lines:
            logger.warning(
                "an executor prints too much; some of it was left out",
                extra=self._describe() | {"lines_left_out": lines, "bytes_left_out": size},
            )


_ENDS_TRACEBACK: Final = re.compile(r"[\w.]+(Error|Exception|Warning|Interrupt|Exit)\b")
