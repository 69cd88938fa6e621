"""A JSON Web Key Set at a URL: fetched at the start, periodically, and when a JWT names a key that is not in it."""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from typing_extensions import override

from trunkline.background import keep_up

MAX_BYTES: Final = 256 * 1024
FETCH_SECONDS: Final = 10.0
GAP_SECONDS: Final = 10.0
"""Between two fetches, however many unknown keys JWTs name."""
MAX_KIDS: Final = 1024
"""Names of keys that are remembered as asked for, or as not there."""

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

logger = logging.getLogger("trunkline.edge")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    @override
    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        """Follow none: the keys are trusted because of where they are."""


_opener: Final = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))


def require_trusted(url: str) -> None:
    """Refuse a URL by which others could hand in keys.

    Raises:
        ValueError: it is neither https nor of this machine.
    """
    parts = urlsplit(url)
    if not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))):
        raise ValueError("TRUNKLINE_JWT_KEYS_URL has to be https://... (http:// on this machine only)")
    if parts.username is not None or parts.password is not None:
        raise ValueError("TRUNKLINE_JWT_KEYS_URL: has a user or password in it; key sets are public")


def fetch(url: str) -> str:
    """The key set at a URL, as text. Blocks for :data:`FETCH_SECONDS` at most, or a little longer.

    Raises:
        ValueError: there is none; the message names the URL and why.
    """
    require_trusted(url)
    until = time.monotonic() + FETCH_SECONDS
    read = bytearray()
    try:
        with _opener.open(url, timeout=FETCH_SECONDS) as response:
            while chunk := response.read1(16 * 1024):
                read += chunk
                if len(read) > MAX_BYTES:
                    raise ValueError(f"{url}: has more than {MAX_BYTES} bytes")
                if time.monotonic() > until:
                    raise ValueError(f"{url}: takes longer than {FETCH_SECONDS:.0f} s")
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"{url}: answers with status {error.code}") from None
    except (OSError, HTTPException) as error:
        raise ValueError(f"{url}: cannot be fetched: {error}") from None
    try:
        return read.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{url}: is no JSON") from None


class KeyRefresh:
    """Fetches a key set again, in a thread, and says when there is another.

    Args:
        url: see :func:`require_trusted`.
        seconds: between two fetches that nobody asks for.
        fetched: takes the text, and returns whether a key of this name is in it; may raise ValueError.
        gap: by default :data:`GAP_SECONDS`.
    """

    def __init__(
        self, url: str, seconds: float, fetched: Callable[[str], Callable[[str], bool]], gap: float | None = None
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._fetched = fetched
        self._gap = GAP_SECONDS if gap is None else gap
        self._asked = asyncio.Event()
        self._wanted: set[str] = set()
        self._missing: set[str] = set()
        self._before: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch every now and then."""
        self._task = keep_up(self._run, "key set")

    def stop(self) -> None:
        """Fetch no more."""
        if self._task is not None:
            self._task.cancel()

    def refresh(self) -> None:
        """Fetch soon."""
        self._asked.set()

    def ask(self, kid: str) -> bool:
        """Fetch soon, because of a key that is not known.

        Returns:
            Whether it may be there then: False where it was looked for since the keys last changed.
        """
        if kid in self._missing or len(self._wanted) >= MAX_KIDS:
            return False
        self._wanted.add(kid)
        self._asked.set()
        return True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._gap)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._asked.wait()
            self._asked.clear()
            wanted, self._wanted = self._wanted, set()
            try:
                text = await asyncio.to_thread(fetch, self._url)
                has = self._fetched(text)
            except ValueError as error:
                logger.error("the keys stay as they were: %s", error)
                continue
            if text != self._before or len(self._missing) > MAX_KIDS:
                self._missing.clear()
            self._before = text
            self._missing |= {kid for kid in wanted if not has(kid)}
