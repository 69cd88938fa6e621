"""Logs to stderr: pretty on a terminal, one JSON object a line elsewhere. Library logs take the same path."""

from __future__ import annotations

import io
import logging
import logging.config
import sys
from collections.abc import Iterable
from typing import Literal, TextIO

import structlog
from typing_extensions import override

from trunkline.observe.secrets import SecretMask
from trunkline.terminal_text import plain, plain_lines

Format = Literal["auto", "pretty", "json"]


class MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Takes secrets out of the finished line, wherever in it they are: message, fields, traceback.

    Attributes:
        mask: may be replaced once the secrets are known.
    """

    mask = SecretMask()

    @override
    def format(self, record: logging.LogRecord) -> str:
        return self.mask(super().format(record))


def _plain_texts(
    _logger: structlog.typing.WrappedLogger, _level: str, members: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A record whose texts are safe for a terminal: what is logged may be a peer's word."""
    return {plain(name): plain_lines(value) if isinstance(value, str) else value for name, value in members.items()}


def _plain_traceback(file: TextIO, failure: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, failure)
    file.write(plain_lines(text.getvalue()))


def configure_logs(level: str, log_format: Format, secrets: Iterable[str] = ()) -> None:
    """Set up logging for this process.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``auto`` decides by whether stderr is a terminal.
        secrets: are taken out of each line.
    """
    pretty = sys.stderr.isatty() if log_format == "auto" else log_format == "pretty"
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [
            _plain_texts,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback),
        ]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    formatter = MaskingFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )
    formatter.mask = SecretMask(secrets)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))
