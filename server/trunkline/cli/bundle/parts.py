"""The parts of a bundle: each is there, or has the error that kept it away. And the archive of all of them."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from trunkline.version import __version__
from trunkline_protocol.binary import to_member

FORMAT: Final = 1
"""The version of the layout, for programs that read bundles."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the bundle.

    Attributes:
        name: of the file: ``.json``, or ``.txt``.
        content: a JSON value, or text; None where it is missing.
        error: why it is missing.
        at: when it was asked for, in ISO 8601.
        seconds: how long that took.
    """

    name: str
    content: Any = None
    error: str | None = None
    at: str = ""
    seconds: float = 0.0

    def with_content(self, change: Callable[[Any], Any]) -> Part:
        """The same part with another content; one that is missing stays so."""
        return self if self.error is not None else replace(self, content=change(self.content))


def now() -> str:
    """The time in ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


async def part(name: str, make: Callable[[], Coroutine[Any, Any, Any]], seconds: float) -> Part:
    """Make a part within some seconds; where that fails, the part says why.

    What is late is not waited for, even where it has something to tidy up: a hub that hangs answers no unsubscribe.
    """
    at, begun = now(), time.monotonic()
    content, error = None, None
    making = asyncio.ensure_future(make())
    making.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is told here, or too late
    try:
        if await asyncio.wait({making}, timeout=seconds) == (set(), {making}):
            error = f"not there within {seconds:g} s"
        else:
            content = making.result()
    except Exception as failure:
        error = str(failure) or type(failure).__name__
    finally:
        making.cancel()
    return Part(name, content, error, at, round(time.monotonic() - begun, 3))


async def in_thread(function: Callable[[], T]) -> T:
    """Run what blocks; it may never end, as on a disk that hangs: then neither this command nor its end waits."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(give: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(lambda: None if outcome.done() else give())

    def run() -> None:
        try:
            result = function()
        except Exception as error:
            failure = error
            tell(lambda: outcome.set_exception(failure))
        else:
            tell(lambda: outcome.set_result(result))

    threading.Thread(target=run, name="bundle", daemon=True).start()
    return await outcome


def manifest(parts: Sequence[Part], url: str, made_at: str, *, redacted: bool) -> dict[str, Any]:
    """What is in the bundle, and what is missing, and why."""
    return {
        "bundle": FORMAT,
        "trunkline": __version__,
        "made_at": made_at,
        "url": url,
        "redacted": redacted,
        "parts": [
            {
                "file": each.name,
                "state": "present" if each.error is None else "missing",
                "error": each.error,
                "at": each.at,
                "seconds": each.seconds,
            }
            for each in parts
        ],
    }


def archive(parts: Sequence[Part], listed: dict[str, Any]) -> bytes:
    """The ZIP archive: the manifest first, then each part that is there. Unpacked, they are their owner's alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for each in (Part("manifest.json", listed), *parts):
            if each.error is None:
                zipped.writestr(each.name, _encoded(each))
    return buffer.getvalue()


def _encoded(each: Part) -> bytes:
    if isinstance(each.content, str):
        return each.content.encode(errors="replace")
    return json.dumps(each.content, default=to_member, ensure_ascii=True, indent=1).encode()
