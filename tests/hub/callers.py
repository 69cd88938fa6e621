"""Hubs with principals whose tokens are their names."""

from __future__ import annotations

import hashlib
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tests.support.hub import RunningHub
from tests.support.peer import Peer, peer


def tokens_file(folder: Path, head: str, entries: dict[str, str]) -> Path:
    """Write a tokens file.

    Args:
        entries: further lines of each entry, by the name that is its token, too.
    """
    path = folder / "tokens.toml"
    written = [
        f'[[tokens]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n{more}\n'
        for name, more in entries.items()
    ]
    path.write_text(head + "".join(written))
    path.chmod(0o600)
    return path


def as_who(hub: RunningHub, name: str, **options: Any) -> AbstractAsyncContextManager[Peer]:
    """A peer that is this principal."""
    return peer(hub.url, headers={"Authorization": f"Bearer {name}"}, **options)
