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
    """What a path is called: from the working directory on where it is inside, else as a whole, so that none is twice."""
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.as_posix()


async def prune_documents(hub: Hub, collection: str, paths: Sequence[str], delete: bool) -> None:
    """List the documents below some folders whose files are gone, and delete them if that is wanted.

    A folder that cannot be read, or has nothing in it as one has where a disk is not mounted, is passed over, and so
    is what is below a folder that cannot be read: nothing can be said of those files.
    """
    gone: list[str] = []
    for text in paths:
        root = Path(os.path.abspath(text))
        if (why := unreadable(root)) is not None:
            say(f"{text}: nothing is pruned: {why}", error=True)
            continue
        prefix = f"{name_of(root).rstrip('/')}/" if name_of(root) != "." else ""
        known = await documents_of(hub, collection, prefix)
        files = names_below(root, prefix)
        gone += sorted(known - files)
    verb = "deleted" if delete else "would be deleted (--yes does it)"
    for source in gone:
        if delete:
            await hub.call("documents.delete", {"collection": collection, "source": source})
        say(f"  {source}")
    say(f"pruned    {len(gone):>9,}   documents whose file is gone {verb if gone else ''}".rstrip())


def unreadable(folder: Path) -> str | None:
    """Why nothing can be said of the files of a folder; None where it can be."""
    try:
        return None if any(os.scandir(folder)) else "there is nothing in it"
    except NotADirectoryError:
        return "it is no folder"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"


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
        OSError: a folder cannot be read.
    """
    from trunkline.methods.documents.folders import source_name

    def refuse(error: OSError) -> None:
        raise error

    return {
        source_name(f"{prefix}{(Path(folder) / name).relative_to(root).as_posix()}")
        for folder, _, names in os.walk(root, onerror=refuse)
        for name in names
    }
