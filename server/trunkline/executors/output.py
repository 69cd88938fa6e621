"""Logs what an executor logs and prints: with the call that did, limited in rate, and without blocking it.

The pipe is always read to its end, so that printing never blocks; lines beyond the limit are counted and dropped.
:class:`OutputLines` is pure; :class:`OutputReader` is the pipe's end in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from typing_extensions import override

from trunkline.executors.output_records import MARK, MAX_RECORD_BYTES, OutputRecord, decode_record
from trunkline.log_members import STANDARD

LINES_PER_SECOND: Final = 100
BURST_BYTES: Final = 64 * 1024
"""Limit of text in one second, in addition to that of lines."""

MAX_LINE_BYTES: Final = 2000
REPORT_SECONDS: Final = 1.0


logger = logging.getLogger("trunkline.executors.output")


class OutputLines:
    """Cuts bytes into lines and drops those beyond the rate limit. The clock is an argument.

    Attributes:
        lines_left_out, bytes_left_out: dropped since :meth:`take_left_out` was last called.
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
        """Take bytes from the pipe; returns the lines to log, without line ends."""
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
        if len(last) > _limit(last):
            lines.append(last)
            self._partial, self._overlong = b"", True
        return [self._text(line) for line in lines if line.strip() and self._passes(line)]

    def end(self) -> list[str]:
        """The last line, without line end, at the end of the pipe; empty where there is none."""
        last, self._partial = self._partial, b""
        return [self._text(last)] if last.strip() else []

    def take_left_out(self) -> tuple[int, int]:
        """The numbers of lines and bytes dropped since the last time; resets them."""
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
        self._bytes += min(len(line), _limit(line))
        return True

    def _leave_out(self, data: bytes) -> list[str]:
        """Count bytes as dropped, without cutting them into lines: this has to be faster than any process prints."""
        end = data.rfind(b"\n")
        self.lines_left_out += data.count(b"\n")
        if end < 0:
            self._overlong = True
            self.bytes_left_out += len(self._partial) + len(data)
            self._partial = b""
        else:
            self.bytes_left_out += len(self._partial) + end
            self._partial, self._overlong = data[end + 1 :][: _limit(data[end + 1 : end + 2])], False
        return []

    def _text(self, line: bytes) -> str:
        limit = _limit(line)
        text = line[:limit].decode("utf-8", "replace").rstrip("\r")
        if len(line) > limit:
            self.bytes_left_out += len(line) - limit
            return text + "…"
        return text


def _limit(line: bytes) -> int:
    return MAX_RECORD_BYTES if line.startswith(MARK) else MAX_LINE_BYTES


class OutputReader(asyncio.Protocol):
    """Reads the output of one process and logs it.

    Args:
        describe: returns further members of the records of a call, or of whatever runs (0).
    """

    def __init__(self, describe: Callable[[int], dict[str, Any]]) -> None:
        self._describe = describe
        self._lines = OutputLines()
        self._reporting: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()

    @override
    def data_received(self, data: bytes) -> None:
        self._say(self._lines.feed(data, time.monotonic()))
        if self._lines.bytes_left_out and self._reporting is None:
            self._reporting = self._loop.call_later(REPORT_SECONDS, self._report)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._say(self._lines.end())
        self._report()
        if not self.ended.done():
            self.ended.set_result(None)

    def _say(self, lines: list[str]) -> None:
        for line in lines:
            record = decode_record(line)
            if record is None:
                logger.info("%s", line, extra=self._describe(0))
            else:
                self._log(record)

    def _log(self, record: OutputRecord) -> None:
        """Log a record under the name of its logger, of which none is made here: it is the method's to choose."""
        level = logging.getLevelNamesMapping().get(record.level, logging.INFO)
        if not logger.isEnabledFor(level):
            return
        whose = {
            name: value
            for name in ("call_id", "method", "request_id", "trace_id", "exception")
            if (value := getattr(record, name))
        }
        own = {name: value for name, value in record.extra.items() if name not in STANDARD}
        extra = own | whose | self._describe(record.call_id)
        name = record.logger or logger.name
        logger.handle(logger.makeRecord(name, level, "", 0, "%s", (record.text,), None, extra=extra))

    def _report(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        lines, size = self._lines.take_left_out()
        if size or lines:
            logger.warning(
                "an executor prints too much; lines were dropped",
                extra=self._describe(0) | {"lines_left_out": lines, "bytes_left_out": size},
            )
