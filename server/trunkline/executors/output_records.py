"""One log record of an executor as a line of its output: how a record, its traceback and whose it is stay together.

A record is a JSON object behind the record separator of RFC 7464, which no text contains by accident. It goes the way
of what methods print, through the pipe, since that outlives the process: what was logged just before a crash counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

MARK: Final = b"\x1e"
MAX_RECORD_BYTES: Final = 32 * 1024
MAX_TEXT_CHARS: Final = 4096
MAX_EXCEPTION_CHARS: Final = 4096
MAX_EXTRA: Final = 20
MAX_EXTRA_CHARS: Final = 500

Scalar = str | int | float | bool | None


class OutputRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was logged or printed.

    Attributes:
        level: ``DEBUG`` to ``CRITICAL``.
        text: the message.
        logger: its name; empty for what was printed.
        call_id, method, request_id, trace_id: the call that did, where one did.
        exception: the traceback.
        extra: further members of the record.
    """

    level: str
    text: str
    logger: str = ""
    call_id: int = 0
    method: str = ""
    request_id: str = ""
    trace_id: str = ""
    exception: str = ""
    extra: dict[str, Scalar] = {}


_decoder: Final = msgspec.json.Decoder(OutputRecord)


def encode_record(record: OutputRecord) -> bytes:
    """A record as a line of output, of :data:`MAX_RECORD_BYTES` at most."""
    line = _line(record)
    if len(line) > MAX_RECORD_BYTES:  # characters of several bytes: bounds of text count characters
        short = msgspec.structs.replace(
            record, text=cut(record.text, 1000), exception=cut(record.exception, 1000), extra={}
        )
        line = _line(short)
    return line


def decode_record(line: str) -> OutputRecord | None:
    """The record in a line of output; None where the line is none."""
    if not line.startswith("\x1e"):
        return None
    try:
        return _decoder.decode(line[1:])
    except msgspec.DecodeError:
        return None


def scalars(extra: Mapping[str, object]) -> dict[str, Scalar]:
    """Members of a log record as what a line can carry: bounded in number and size, valid Unicode."""
    return {cut(name, 100): _scalar(value) for name, value in list(extra.items())[:MAX_EXTRA]}


def cut(text: str, limit: int) -> str:
    """The text within ``limit`` characters: its middle is left out, since tracebacks end with what matters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        return text
    head = limit // 4
    return f"{text[:head]} … {text[len(text) - (limit - head - 3) :]}"


def _scalar(value: object) -> Scalar:
    if isinstance(value, (bool, float, type(None))):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    try:
        text = str(value)
    except Exception as error:  # a value of the method's, with a __str__ of its own
        text = f"(its text cannot be read: {type(error).__name__})"
    return cut(text, MAX_EXTRA_CHARS)


def _line(record: OutputRecord) -> bytes:
    return MARK + msgspec.json.encode(record) + b"\n"
