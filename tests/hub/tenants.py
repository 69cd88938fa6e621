"""A hub with principals of one name in several tenants, in the test's own process."""

from __future__ import annotations

import asyncio
import hashlib
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tests.support.peer import Peer, peer
from trunkline.testing import MockHub

TENANTS: Final = ("acme", "bolt", "default")
"""Each has an ``ann``, whose token is the tenant's name, with every right but an admin's; ``root`` is the operator."""


def bearer(token: str) -> dict[str, str]:
    """The headers of a request with a token."""
    return {"Authorization": f"Bearer {token}"}


def write_tokens(path: Path, entries: Mapping[str, str]) -> Path:
    """Write a tokens file of entries by their token: the lines of each."""
    path.write_text(
        "".join(
            f'[[tokens]]\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n{lines}\n'
            for token, lines in entries.items()
        )
    )
    path.chmod(0o600)
    return path


ENTRIES: Final = {tenant: f'name = "ann"\ntenant = "{tenant}"\nroles = ["callee"]' for tenant in TENANTS} | {
    "root": 'name = "root"\nroles = ["admin"]'
}


@asynccontextmanager
async def hub_of_tenants(
    folder: Path, *modules: ModuleType, entries: Mapping[str, str] = ENTRIES, **settings: Any
) -> AsyncIterator[MockHub]:
    """A hub whose principals are those of :data:`ENTRIES`."""
    file = write_tokens(folder / "tokens.toml", entries)
    async with MockHub(*modules, tokens_file=file, **settings) as mock:
        yield mock


def as_one_of(mock: MockHub, token: str, **options: Any) -> AbstractAsyncContextManager[Peer]:
    """A peer that has this token."""
    return peer(mock.url, headers=bearer(token), **options)


async def fetched(
    mock: MockHub, path: str, token: str, body: str | None = None, headers: Mapping[str, str] | None = None
) -> str:
    """The text of an HTTP answer, whatever its status: GET without a body, else POST of JSON."""

    def fetch() -> str:
        sent = bearer(token) | ({} if body is None else {"Content-Type": "application/json"}) | dict(headers or {})
        url = mock.url.replace("ws://", "http://").removesuffix("/ws") + path
        request = urllib.request.Request(url, None if body is None else body.encode(), sent)
        try:
            with urllib.request.urlopen(request) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    return await asyncio.to_thread(fetch)
