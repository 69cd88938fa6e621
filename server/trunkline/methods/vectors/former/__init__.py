"""Collections as former versions kept them, in logs and snapshots: converted when they are opened. All of this blocks.

::

    collection.json        what the collection is
    log*, snapshot-*       what is in it (recovery.py)
    owner                  JSON {"generation": int, "owner": str}

A version that wrote these looks at ``format_version`` in ``collection.json`` first. So that it leaves a folder alone
which it cannot read, every collection has this file still; nothing else in it counts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors import rows
from trunkline.methods.vectors.former.recovery import Contents, list_contents, recover
from trunkline.methods.vectors.former.snapshot import Damaged
from trunkline.methods.vectors.manifest import FORMAT_VERSION, Manifest
from trunkline.storage.durable import replace_file, sync_folder
from trunkline.storage.failures import damaged

DESCRIPTION: Final = "collection.json"
OWNER: Final = "owner"
UNFINISHED: Final = ".new"

logger = logging.getLogger("trunkline.vectors")


def read_manifest(folder: Path) -> Manifest | None:
    """What a collection was when it was converted or made; None where there is none.

    Raises:
        RpcError: 3002, the file is damaged; 4001, of a later format.
        OSError: it cannot be read.
    """
    path = folder / DESCRIPTION
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED, f"{path} is damaged ({problem}); restore it from a backup"
        ) from error
    if manifest.format_version not in range(1, FORMAT_VERSION + 1):
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {manifest.name!r} has format {manifest.format_version}; this version reads 1 to "
            f"{FORMAT_VERSION}: use the version of Trunkline that wrote it",
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Have former versions see that they cannot read a collection.

    Raises:
        OSError: the file cannot be written.
    """
    described = manifest.model_copy(update={"format_version": FORMAT_VERSION})
    replace_file(folder / DESCRIPTION, json.dumps(described.model_dump(), indent=2).encode())


def convert(folder: Path) -> None:
    """Make the file of a collection of its former files, if it has none. They stay as they are: see :func:`remove`.

    Raises:
        RpcError: 3002, the former files are damaged, or were put beside the file; 4001, of a later format.
        OSError, sqlite3.Error: files cannot be read or written.
    """
    unfinished = folder / (rows.FILE + UNFINISHED)
    for path in folder.glob(unfinished.name + "*"):
        path.unlink()
    manifest = read_manifest(folder)
    contents = list_contents(folder)
    if (folder / rows.FILE).exists():
        if manifest is not None and manifest.format_version < FORMAT_VERSION:
            raise _two_states(folder, manifest)
        return
    if manifest is None:
        return
    if manifest.format_version == FORMAT_VERSION and not contents.segments and not contents.snapshots:
        return  # it is not a former file that is gone
    try:
        recovered = recover(contents, folder, manifest.dimension)
    except Damaged as error:
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"collection {manifest.name!r} cannot be read: {error}. Nothing was changed: restore the file "
            "from a backup, or delete the folder and index again",
        ) from error
    manifest = manifest.model_copy(update={"format_version": FORMAT_VERSION})
    items, vectors = recovered.table.live()
    try:
        rows.make(unfinished, manifest, (_generation(folder, contents), recovered.position), items, vectors)
        write_manifest(folder, manifest)  # from here on, no former version writes to its files
        unfinished.rename(folder / rows.FILE)
    except (OSError, sqlite3.Error):
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    logger.info("collection %s is in one file now", manifest.name, extra={"items": len(items), "path": str(folder)})


def require_converted(folder: Path) -> None:
    """Check that all of a collection is in its file, as it is once this version has opened it.

    Raises:
        RpcError: 4001, it has not; 3002, there are two states of it, or none.
        OSError: the folder cannot be read.
    """
    manifest = read_manifest(folder)
    is_former = manifest is not None and manifest.format_version < FORMAT_VERSION
    if (folder / rows.FILE).exists():
        if manifest is not None and is_former:
            raise _two_states(folder, manifest)
        return
    contents = list_contents(folder)
    if not is_former and not contents.segments and not contents.snapshots:
        raise damaged(folder / rows.FILE, "it is gone")
    raise RpcError(
        ErrorCode.INVALID_CONFIGURATION,
        f"{folder} is as an older version wrote it: a running hub converts it at its first use, as trunkline "
        f"collections stats {folder.name}",
    )


def _two_states(folder: Path, manifest: Manifest) -> RpcError:
    return RpcError(
        ErrorCode.PIPELINE_INITIALIZATION_FAILED,
        f"{folder} has two states of collection {manifest.name!r}: {rows.FILE}, and beside it files of format "
        f"{manifest.format_version}, which an older version wrote or a backup brought. Nothing was changed: move away "
        f"what you do not want, {rows.FILE} with its -wal and -shm, or {DESCRIPTION} with log* and snapshot-*",
    )


def _generation(folder: Path, contents: Contents) -> int:
    """The greatest generation that any former owner had, as far as the files tell."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        return max(contents.generation, int(json.loads((folder / OWNER).read_bytes())["generation"]))
    return contents.generation


def remove(folder: Path) -> None:
    """Remove the former files, when everything that was in them has been read from the new one."""
    try:
        contents = list_contents(folder)
        paths = [each.path for each in contents.segments] + [each.path for each in contents.snapshots]
        for path in (*paths, *folder.glob(f"*{UNFINISHED}"), folder / OWNER):
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("a former file of a collection cannot be removed; it is not used any more: %s", error)
