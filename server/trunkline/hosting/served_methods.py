"""Methods that clients served when a hub stopped, for the next one: it waits for them, as for any that went."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from trunkline.hub.callees import KeptMethod

FILE: Final = "served.json"
"""In the data folder."""

logger = logging.getLogger("trunkline")


def keep(data: Path, methods: Sequence[KeptMethod]) -> None:
    """Write down methods. Blocks. A failure is logged: the next hub knows them when their clients are back."""
    if not methods:
        return
    partial = data / f"{FILE}.partial"
    try:
        data.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(methods))
        partial.replace(data / FILE)
    except OSError as error:
        logger.warning("the methods that clients serve cannot be kept for the next hub: %s", error)


def take(data: Path) -> list[KeptMethod]:
    """The methods that the hub before wrote down, once; none where it wrote nothing, or what cannot be read. Blocks."""
    path = data / FILE
    try:
        content = path.read_bytes()
        path.unlink()
        return msgspec.json.decode(content, type=list[KeptMethod])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("the methods that clients served before cannot be read: %s", error)
        return []
