"""``trunkline ingest --prune``: deletes the documents of a collection whose files are gone from a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.cli.show.terminal import say

if TYPE_CHECKING:
    from trunkline.client import Hub


def name_of(path: Path) -> str:
    """What a path is called: from the working directory on where it is inside, else as a whole: none is there twice."""
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.as_posix()


def prefix_of(folder: Path) -> str:
    """What the names of all files of a folder begin with."""
    name = name_of(Path(os.path.normpath(folder)))
    return "" if name == "." else f"{name.rstrip('/')}/"


async def prune_documents(hub: Hub, collection: str, paths: Sequence[str], delete: bool) -> None:
    """List the documents below some folders whose files are gone, and delete them if that is wanted.

    Where a folder or one below it cannot be read, or there is no file at all, as where a disk is not mounted, nothing
    can be said of the files, and nothing is deleted.
    """
    gone: list[str] = []
    for root in (Path.cwd() / path for path in paths):
        prefix = prefix_of(root)
        known = await documents_of(hub, collection, prefix)
        try:
            files = names_below(root, prefix)
        except OSError as error:
            say(f"{root}: nothing is pruned: {error}", error=True)
            continue
        gone += sorted(known - files)
    verb = "deleted" if delete else "would be deleted (--yes does it)"
    for source in gone:
        if delete:
            await hub.call("documents.delete", {"collection": collection, "source": source})
        say(f"  {source}")
    say(f"pruned    {len(gone):>9,}   documents whose file is gone {verb if gone else ''}".rstrip())


async def documents_of(hub: Hub, collection: str, prefix: str) -> set[str]:
    """The names of the documents of a collection that begin with a prefix."""
    found: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        page = await hub.call("documents.list", {"collection": collection, "prefix": prefix, "cursor": cursor})
        found |= {document["source"] for document in page["documents"]}
        cursor = page["cursor"]
    return found


def names_below(root: Path, prefix: str) -> set[str]:
    """The names that the files of a folder have as documents, whatever they are.

    Raises:
        OSError: a folder cannot be read, or has no files.
    """
    from trunkline.methods.documents.folders import source_name

    def refuse(error: OSError) -> None:
        raise error

    found = {
        source_name(f"{prefix}{(Path(folder) / name).relative_to(root).as_posix()}")
        for folder, _, names in os.walk(root, onerror=refuse)
        for name in names
    }
    if not found:
        raise FileNotFoundError("there is no file in it")
    return found
