"""``trunkline ingest --prune``: deletes the documents of a collection whose files are gone from a folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trunkline.cli.show.terminal import say

if TYPE_CHECKING:
    from trunkline.client import Hub

PAGE: Final = 500


async def prune_documents(hub: Hub, collection: str, paths: Sequence[str], delete: bool) -> None:
    """List the documents that came from files below some folders which are gone, and delete them if that is wanted.

    Of texts, and of what was put in without telling its file, nothing is known: these stay, and their number is said.
    Where a folder or one below it cannot be read, or there is no file at all, as where a disk is not mounted, nothing
    can be said of the files, and nothing is deleted.
    """
    known = [document async for document in documents_of(hub, collection)]
    gone: set[str] = set()
    for root in whole(paths):
        try:
            files = files_below(root)
        except OSError as error:
            say(f"{root}: nothing is pruned: {error}", error=True)
            continue
        below = f"{root.as_posix().rstrip('/')}/"
        gone |= {
            each["source"] for each in known if each.get("file", "").startswith(below) and each["file"] not in files
        }
    verb = "deleted" if delete else "would be deleted (--yes does it)"
    for source in sorted(gone):
        if delete:
            await hub.call("documents.delete", {"collection": collection, "source": source})
        say(f"  {source}")
    say(f"pruned    {len(gone):>9,}   documents whose file is gone {verb if gone else ''}".rstrip())
    if unknown := sum("file" not in each for each in known):
        say(f"left      {unknown:>9,}   documents of which it is not known from which file they came")


def whole(paths: Sequence[str]) -> list[Path]:
    """The whole paths of some folders, links in them not followed."""
    return [Path(os.path.abspath(path)) for path in paths]


async def documents_of(hub: Hub, collection: str) -> AsyncIterator[dict[str, Any]]:
    """All documents of a collection, as ``documents.list`` has them."""
    cursor: str | None = ""
    while cursor is not None:
        page = await hub.call("documents.list", {"collection": collection, "limit": PAGE, "cursor": cursor})
        for document in page["documents"]:
            yield document
        cursor = page["cursor"]


def files_below(root: Path) -> set[str]:
    """The whole paths of the files of a folder, as ``trunkline ingest`` tells them.

    Raises:
        OSError: a folder cannot be read, or has no files.
    """
    from trunkline.methods.documents.folders import source_name

    def refuse(error: OSError) -> None:
        raise error

    found = {
        source_name((Path(folder) / name).as_posix())
        for folder, _, names in os.walk(root, onerror=refuse)
        for name in names
    }
    if not found:
        raise FileNotFoundError("there is no file in it")
    return found
