"""The dialects that framed peers may speak, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime

from trunkline_protocol.codecs.command_bus import CommandBusDialect
from trunkline_protocol.codecs.dspy_port import DspyPortDialect
from trunkline_protocol.codecs.plain import FramedDialect, PlainDialect
from trunkline_protocol.framing import DialectName, FramingName


@dataclass(frozen=True, slots=True)
class Speech:
    """The framing and the dialect of a framed peer."""

    framing: FramingName = "packet4"
    dialect: DialectName = "jsonrpc"


def make_dialect(name: DialectName, max_bytes: int, version: str) -> FramedDialect:
    """A new dialect object, for one peer.

    Args:
        max_bytes: limit of a message that the dialect sends in several frames.
        version: of this program.
    """
    if name == "command-bus":
        return CommandBusDialect()
    if name == "dspy-port":
        return DspyPortDialect(max_bytes, version, os.getpid(), _now)
    return PlainDialect()


def _now() -> str:
    return datetime.now(UTC).isoformat()
