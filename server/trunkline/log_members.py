"""The members that every log record has; all others are what its caller added with ``extra``."""

from __future__ import annotations

import logging
from typing import Final

STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
