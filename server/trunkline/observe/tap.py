"""Log records as data for subscribers of ``system.logs``: the last ones before they came, and all from then on."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import Final

from trunkline.log_members import STANDARD
from trunkline.observe.secrets import SecretMask

MAX_RECORDS: Final = 100
"""Records between two visits of whoever takes them, four times a second; more are counted."""

MAX_KEPT: Final = MAX_RECORDS
"""Records kept while nobody watches, the last ones: the first to watch gets them at once."""

NOT_KEPT: Final = frozenset({"trunkline.requests"})
"""Loggers that may speak at each call: while nobody watches, their records cost nothing here."""

LogFields = dict[str, str | float | None]
"""A record as it is told: the members of :class:`trunkline_protocol.reports.LogRecord`, and the fields of its own."""

MAX_TEXT_CHARS: Final = 2000
MAX_EXCEPTION_CHARS: Final = 8192


class LogTap(logging.Handler):
    """Keeps what is logged, in any thread: all of it while it is open, the last records otherwise.

    Each record is given out once: what :meth:`open` begins with is what nobody has been told of yet.

    Args:
        mask: takes secrets out.
    """

    def __init__(self, mask: SecretMask) -> None:
        super().__init__()
        self._mask = mask
        self._records: list[LogFields] = []
        self._dropped = 0
        self._kept: deque[LogFields] = deque(maxlen=MAX_KEPT)
        self._is_open = False

    def start(self) -> None:
        """Receive log records, for as long as the hub runs."""
        logging.getLogger().addHandler(self)

    def stop(self) -> None:
        """Stop receiving log records."""
        logging.getLogger().removeHandler(self)

    def open(self) -> None:
        """Begin to gather records, with those that were kept."""
        self.acquire()
        try:
            self._is_open = True
            self._records, self._dropped = list(self._kept), 0
            self._kept.clear()
        finally:
            self.release()

    def close(self) -> None:
        """Stop gathering, and drop the records that were gathered."""
        self._is_open = False
        self.take()

    def take(self) -> tuple[list[LogFields], int]:
        """The records since the last call of this, and the number of records that were dropped."""
        self.acquire()
        try:
            taken = self._records, self._dropped
            self._records, self._dropped = [], 0
        finally:
            self.release()
        return taken

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; called by logging, which holds the handler's lock."""
        if self._is_open and len(self._records) >= MAX_RECORDS:
            self._dropped += 1
            return
        if not self._is_open and record.name in NOT_KEPT:
            return
        try:
            (self._records if self._is_open else self._kept).append(self._described(record))
        except Exception:  # what cannot be formatted is the logger's trouble, and is said on stderr by logging
            self.handleError(record)

    def _described(self, record: logging.LogRecord) -> LogFields:
        said: LogFields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._text(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name == "exception":  # a traceback, which ends with what matters
                said[name] = self._text(value, MAX_EXCEPTION_CHARS)
            elif name not in STANDARD and not name.startswith("_"):
                said[name] = value if isinstance(value, (bool, int, float, type(None))) else self._text(value)
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            said["exception"] = self._text("".join(traceback.format_exception(error)).rstrip(), MAX_EXCEPTION_CHARS)
        return said

    def _text(self, value: object, limit: int = MAX_TEXT_CHARS) -> str:
        text = self._mask(str(value).encode("utf-8", "replace").decode())
        if len(text) <= limit:
            return text
        if limit < MAX_EXCEPTION_CHARS:
            return text[: limit - 1] + "…"
        return text[: limit // 2] + "\n…\n" + text[-limit // 2 + 3 :]  # both ends of a traceback matter
