"""Replaces executors when the files of their code have changed: for ``trunkline serve --reload``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from trunkline.executors.replacement import Replacements
from trunkline_protocol.errors import RpcError
from trunkline_protocol.reports import Reloaded

INTERVAL: Final = 0.25
"""Seconds between looks at the files. They are looked at, not notified of, which works in containers and on network
file systems as well. A change counts when two looks find the same: whoever writes the files has finished."""


async def watch_code(replacements: Replacements, say: Callable[[str], None]) -> None:
    """Reload executors at each change of their files, without end.

    Args:
        say: called with a line about what became of it.
    """
    seen: dict[str, int] = {}
    tried: dict[str, int] = {}
    while True:
        await asyncio.sleep(INTERVAL)
        changed = await replacements.changed_sources()
        if not changed or changed == tried:
            continue
        if changed != seen:
            seen = changed
            continue
        tried, began = changed, time.monotonic()
        try:
            said = words_of(await replacements.reload(), time.monotonic() - began)
        except RpcError as error:
            said = f"not reloaded: {error.message}"
        say(f"{_names(changed)} changed: {said}")


def words_of(reloaded: Reloaded, seconds: float) -> str:
    """What a reload has done, in one line."""
    counts = f"{len(reloaded.executors)} executors reloaded in {seconds:.1f} s, {reloaded.methods} methods"
    changes = [*(f"+{name}" for name in reloaded.added), *(f"-{name}" for name in reloaded.removed)]
    return "; ".join([" ".join([counts, *changes]), *reloaded.failed])


def _names(files: Collection[str]) -> str:
    names = sorted(Path(file).name for file in files)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
