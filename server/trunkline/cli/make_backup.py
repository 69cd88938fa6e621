"""Makes an archive of the collections and jobs in a data folder: see :mod:`trunkline.cli.backup`."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import typer

from trunkline.cli import data_parts
from trunkline.cli.collections import progress_bar, written
from trunkline.cli.data_parts import Part, Wanted
from trunkline.cli.talk import EXIT_FAILED, fail
from trunkline.storage.archive import (
    FORMAT_VERSION,
    Archive,
    ArchivedFile,
    ArchiveError,
    ArchiveWriter,
    Contents,
    LeftOut,
)
from trunkline.storage.failures import told
from trunkline.storage.snapshot import snapshot
from trunkline.storage.tenant_folders import UnnamedFolderError
from trunkline.version import __version__
from trunkline_protocol.errors import ErrorCode, RpcError

Advance = Callable[[float], None]

INCOMPLETE: Final = "it is kept as it was: give another name for what can be backed up"


def make_backup(folder: Path, file: str, wanted: Wanted, replace: bool) -> None:
    """Make an archive of what is wanted; ends the command where it cannot.

    Args:
        folder: the data folder.
        file: '-' is standard output.
        replace: replace it where it is there, if nothing is left out, and it holds nothing of a kind that is not
            there any more: where a disk is not mounted, the last good archive stays.

    Raises:
        RpcError, FileProblem, ArchiveError: there is none.
    """
    parts = _wanted(folder, wanted)
    with written(file, replace=replace) as output, _scratch(file) as scratch, _bar(folder, parts) as advance:
        run = _Backup(folder, output, scratch, advance)
        contents = run.make(parts)
        if contents.left_out and file != "-" and Path(file).exists():
            fail(EXIT_FAILED, *_words(contents.left_out), f"{file} is not replaced: {INCOMPLETE}")
        if gone := _kinds_in(file) - _kinds(contents):
            words = f"it holds {' and '.join(sorted(gone))}, and the new archive would not"
            fail(EXIT_FAILED, f"{file} is not replaced: {words}: is a disk not mounted? Else give another name")
        output.flush()
    typer.echo(f"backed up: {_counted(contents)}", err=True)
    if trouble := [*run.damaged_jobs, *_words(contents.left_out)]:
        fail(EXIT_FAILED, *trouble)


def _kinds_in(file: str) -> set[str]:
    """What an archive that is to be replaced holds; nothing where there is none, or it is none."""
    if file == "-" or not Path(file).is_file():
        return set()
    try:
        with Path(file).open("rb") as former:
            return _kinds(Archive(former).contents)
    except (ArchiveError, OSError):
        return set()


def _kinds(contents: Contents) -> set[str]:
    return {"collections" if each.kind == "collection" else each.kind for each in contents.files}


def _wanted(folder: Path, wanted: Wanted) -> list[Part]:
    """The parts to back up; ends the command where there are none, or one that is named is not there."""
    try:
        with told(f"{folder} cannot be read", folder):
            there = list(data_parts.parts_of(folder))
    except UnnamedFolderError as error:
        fail(EXIT_FAILED, str(error))
    if missing := wanted.missing(there):
        fail(EXIT_FAILED, *(f"there is no {each} in {folder}" for each in missing))
    parts = [part for part in there if wanted.takes(part)]
    if not parts:
        words = f"there is nothing to back up in {folder}: is it the hub's data folder (--data, TRUNKLINE_DATA)?"
        fail(EXIT_FAILED, words)
    return parts


@contextlib.contextmanager
def _scratch(file: str) -> Iterator[Path]:
    """Where each copy lies while it is looked through: beside the archive, where it has to have room anyway."""
    if file == "-":
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "snapshot"
        return
    path = Path(f"{file}.snapshot")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _bar(folder: Path, parts: Sequence[Part]) -> Iterator[Advance]:
    sizes = 0
    for part in parts:
        with contextlib.suppress(OSError):
            sizes += (folder / part.path).stat().st_size
    with progress_bar("backing up", sizes, in_bytes=True) as (progress, task):
        yield lambda done: progress.advance(task, done)


def _counted(contents: Contents) -> str:
    collections = [each.items for each in contents.files if each.kind == "collection"]
    jobs = sum(each.items for each in contents.files if each.kind == "jobs")
    talks = sum(each.items for each in contents.files if each.kind == "conversations")
    return f"collections {len(collections)}, their items {sum(collections)}, jobs {jobs}, conversations {talks}"


def _words(left_out: Sequence[LeftOut]) -> list[str]:
    return [f"left out: {each.why}" for each in left_out]


class _Backup:
    """One run: what was left out, and which jobs are damaged, besides what is in the archive."""

    def __init__(self, data: Path, output: IO[bytes], scratch: Path, advance: Advance) -> None:
        self._data = data
        self._scratch = scratch
        self._advance = advance
        self._now = time.time()
        self._writer = ArchiveWriter(output, int(self._now))
        self._left_out: list[LeftOut] = []
        self.damaged_jobs: list[str] = []

    def make(self, parts: Sequence[Part]) -> Contents:
        """Write the archive. Returns what its manifest says.

        Raises:
            RpcError: 5002, no room for a copy.
            OSError: it cannot be written.
        """
        files = [stored for part in parts if (stored := self._add(part)) is not None]
        made_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now))
        contents = Contents(FORMAT_VERSION, __version__, made_at, files, self._left_out)
        self._writer.finish(contents)
        return contents

    def _add(self, part: Part) -> ArchivedFile | None:
        try:
            found = self._copy(part)
        except RpcError as error:
            if error.code == ErrorCode.INSUFFICIENT_RESOURCES:
                raise
            if (self._data / part.folder).exists():
                self._left_out.append(LeftOut(part.kind, part.name, f"{part.what}: {error.message}", part.tenant))
            else:
                typer.echo(f"trunkline: {part.what} was deleted meanwhile", err=True)
            return None
        size, sha256 = self._writer.add(part.member, self._scratch)
        about = (size, sha256, found.items, found.position, part.tenant)
        return ArchivedFile(part.member, part.kind, part.name, *about)

    def _copy(self, part: Part) -> data_parts.Found:
        path = self._data / part.path
        with told(f"{part.what} cannot be copied", path):
            data_parts.require_converted(part, path.parent)
            size, before = path.stat().st_size, 0.0

            def progress(done: int, pages: int) -> None:
                nonlocal before
                now = size * done / max(pages, 1)
                self._advance(now - before)
                before = now

            snapshot(path, self._scratch, part.what, progress)
            found = data_parts.check(part, self._scratch, path)
        self.damaged_jobs += found.damaged_jobs
        return found
