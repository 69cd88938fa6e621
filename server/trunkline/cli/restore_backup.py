"""Puts what is in an archive into a data folder: see :mod:`trunkline.cli.backup`."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import typer

from trunkline.cli import data_parts
from trunkline.cli.collections import progress_bar
from trunkline.cli.data_parts import Part
from trunkline.cli.data_parts import Wanted as Asked
from trunkline.cli.talk import EXIT_FAILED, fail
from trunkline.storage.archive import COPIED_AT_ONCE, Archive, ArchivedFile, ArchiveError
from trunkline.storage.durable import sync
from trunkline.storage.failures import Damaged, told
from trunkline.storage.locking import require_local
from trunkline.storage.staging import StagedFolder, make_folders, remove_abandoned
from trunkline.storage.tenant_folders import name_tenant_folder

NO_EXCHANGE: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})

Wanted = list[tuple[Part, ArchivedFile]]


class Refused(Exception):
    """The archive is not restored, and nothing has changed; a line for each reason."""


def restore_backup(folder: Path, file: str, asked: Asked, replace: bool) -> None:
    """Restore from an archive what is asked for; ends the command where it cannot.

    Args:
        folder: the data folder.
        file: ``-`` is standard input.
        replace: whether what is there is replaced.

    Raises:
        RpcError: the disk, or a later version; nothing was changed.
    """
    _allow_many_locks()
    name = "standard input" if file == "-" else file
    with _opened(folder, file) as opened, told(f"{name} cannot be read", Path(name)):
        try:
            archive = Archive(opened)
            wanted = _wanted(archive, asked)
            for left_out in archive.contents.left_out:
                _say(f"{name} lacks {left_out.kind} {left_out.name}: {left_out.why}")
            total = sum(stored.bytes for _, stored in wanted)
            with progress_bar("restoring", total, in_bytes=True) as (progress, task):
                _Restoring(folder, archive, name, lambda done: progress.advance(task, done)).run(wanted, replace)
        except ArchiveError as error:
            fail(EXIT_FAILED, f"{name} cannot be restored, nothing was changed: {error}")
        except Refused as refused:
            fail(EXIT_FAILED, *refused.args)
    for part, stored in wanted:
        typer.echo(f"restored {part.what}: {stored.items}", err=True)


@contextlib.contextmanager
def _opened(folder: Path, file: str) -> Iterator[IO[bytes]]:
    """The archive, to be read at any place. What a pipe gives is kept in the data folder, without a name."""
    if file != "-":
        with told(f"{file} cannot be read", Path(file)), Path(file).open("rb") as opened:
            yield opened
        return
    place = _existing(folder)
    with contextlib.ExitStack() as last:
        with told(f"standard input cannot be kept in {place} until it is restored", place):
            kept = last.enter_context(tempfile.TemporaryFile(dir=place))
            shutil.copyfileobj(sys.stdin.buffer, kept, COPIED_AT_ONCE)
            kept.flush()
        yield kept


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _say(words: str) -> None:
    """Print a line whose words are those of an archive, which may be anybody's: without what moves a cursor."""
    typer.echo(f"trunkline: {''.join(each if each.isprintable() else '?' for each in words)}", err=True)


def _allow_many_locks() -> None:
    """Two of them are held for each collection until all is done."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _wanted(archive: Archive, asked: Asked) -> Wanted:
    there = [(data_parts.part_in(stored), stored) for stored in archive.contents.files]
    if missing := asked.missing([part for part, _ in there]):
        raise Refused(*(f"there is no {each} in the archive" for each in missing))
    wanted = [(part, stored) for part, stored in there if asked.takes(part)]
    if not wanted:
        raise Refused("there is nothing of that in the archive")
    return wanted


class _Restoring:
    """One run.

    Args:
        data: the data folder.
        name: the archive's, for messages.
        advance: called with the number of bytes that were read since the last time.
    """

    def __init__(self, data: Path, archive: Archive, name: str, advance: Callable[[int], None]) -> None:
        self._data = data
        self._archive = archive
        self._name = name
        self._advance = advance

    def run(self, wanted: Wanted, replace: bool) -> None:
        """Put all that is wanted in its place, or nothing.

        Raises:
            Refused: what is there has to stay, or a hub has it.
            ArchiveError: what is in the archive is damaged.
            RpcError: 5001, 5002, the disk; 4001, it is a network's, or the archive of a later version.
        """
        with told(f"{self._data} cannot be restored to", self._data), contextlib.ExitStack() as failed:
            require_local(self._data)
            self._require_room(sum(stored.bytes for _, stored in wanted))
            for parent in sorted({(self._data / part.folder).resolve().parent for part, _ in wanted}):
                make_folders(parent, failed)
                remove_abandoned(parent)
            for tenant in sorted({part.tenant for part, _ in wanted}):
                name_tenant_folder(self._data, tenant, failed)
            with contextlib.ExitStack() as last:
                staged = self._stage(wanted, replace, last)
                for (part, stored), folder in zip(wanted, staged, strict=True):
                    self._fill(part, stored, folder)
                with contextlib.ExitStack() as undo:
                    for (part, _), folder in zip(wanted, staged, strict=True):
                        undo.callback(folder.take_back)
                        self._put(part, folder)
                    undo.pop_all()
            failed.pop_all()

    def _require_room(self, size: int) -> None:
        there = _existing(self._data)
        if size > shutil.disk_usage(there).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(there))

    def _stage(self, wanted: Wanted, replace: bool, last: contextlib.ExitStack) -> list[StagedFolder]:
        staged, refused = [], []
        for part, _ in wanted:
            place = self._data / part.folder
            if place.exists() and not replace:
                refused.append(f"{place} is there already: --replace replaces it")
                continue
            try:
                folder = StagedFolder(place)
            except BlockingIOError as error:
                words = f"{place} is in use: {error.strerror}: stop that hub, or restore into another folder (--data)"
                refused.append(words)
                continue
            last.callback(folder.release)
            staged.append(folder)
        if refused:
            raise Refused(*refused, "nothing was changed")
        return staged

    def _fill(self, part: Part, stored: ArchivedFile, folder: StagedFolder) -> None:
        path = folder.path / part.file
        with path.open("xb") as output:
            self._archive.copy_to(stored, output, self._advance)
            output.flush()
            sync(output.fileno())
        try:
            found = data_parts.check(part, path, Path(f"{self._name}:{part.member}"))
        except Damaged as error:
            raise ArchiveError(f"{part.member} is damaged ({error.why})") from error
        if (found.items, found.position) != (stored.items, stored.position):
            raise ArchiveError(
                f"{part.member} has {found.items} items and position {found.position}, not as its manifest"
            )
        data_parts.complete(found, folder.path)
        for words in found.damaged_jobs:
            _say(f"damaged when it was backed up: {words}")

    def _put(self, part: Part, folder: StagedFolder) -> None:
        try:
            folder.put()
        except OSError as error:
            if error.errno in NO_EXCHANGE:
                words = f"the file system of {self._data / part.folder} cannot exchange folders"
                raise Refused(f"{words}: move what is there away, and restore without --replace") from error
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                words = f"{self._data / part.folder} was made by another process just now"
                raise Refused(f"{words}: stop the hub, and try again") from error
            raise
