"""An archive of files: a tar, whose last member ``manifest.json`` says what the others are.

Read as what somebody may have made on purpose: nothing but plain files is taken for a member, none is written to where
its name says, and only those are there that the manifest names, with their sizes and SHA-256. All of this blocks.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Final, NamedTuple

import msgspec

from trunkline_protocol.principals import DEFAULT_TENANT

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 16 * 2**20
MAX_FILES: Final = 20_000
MAX_PADDING: Final = 2**20
"""Bytes of zeros behind the last member: other programs' blocks are larger."""
COPIED_AT_ONCE: Final = 2**20
ENCODING: Final = "ascii"

Size = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class ArchiveError(Exception):
    """A file is no archive, is damaged, or holds what it must not. The message says what, but not which file."""


class ArchivedFile(msgspec.Struct, frozen=True):
    """A file in an archive.

    Attributes:
        path: of the member.
        kind: what it is, such as ``collection``.
        name: of that which it holds.
        items: how many are in it.
        position: the number of changes ever made to it, where that is known.
        tenant: whose it is.
    """

    path: str
    kind: str
    name: str
    bytes: Size
    sha256: Sha256
    items: Count
    position: int | None = None
    tenant: str = DEFAULT_TENANT


class LeftOut(msgspec.Struct, frozen=True):
    """What was to be archived, and could not be."""

    kind: str
    name: str
    why: str
    tenant: str = DEFAULT_TENANT


class Contents(msgspec.Struct, frozen=True):
    """What the manifest of an archive says.

    Attributes:
        trunkline: the version that made it.
        made_at: UTC, as ``2026-05-31T12:00:00Z``.
    """

    format_version: int
    trunkline: str
    made_at: str
    files: Annotated[list[ArchivedFile], msgspec.Meta(max_length=MAX_FILES)]
    left_out: list[LeftOut] = []


class _Format(msgspec.Struct):
    format_version: int


# --- writing ---


class Written(NamedTuple):
    """What was written of a member."""

    bytes: int
    sha256: str


class ArchiveWriter:
    """Writes an archive to a file from its beginning to its end, without going back.

    Args:
        output: the file.
        made_at: seconds since 1970.
    """

    def __init__(self, output: IO[bytes], made_at: int) -> None:
        self._output = output
        self._made_at = made_at

    def add(self, path: str, source: Path) -> Written:
        """Add a file as it is.

        Raises:
            OSError: one of the files; the archive is of no use then.
        """
        with source.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            return Written(size, self._add(path, file, size))

    def finish(self, contents: Contents) -> None:
        """Add the manifest: the archive is complete.

        Raises:
            ArchiveError: there are more files than are read again.
            OSError: it cannot be written.
        """
        data = msgspec.json.format(msgspec.json.encode(contents), indent=2) + b"\n"
        if len(contents.files) > MAX_FILES or len(data) > MAX_MANIFEST_BYTES:
            raise ArchiveError(f"{len(contents.files):,} files are more than an archive holds: make several")
        self._add(MANIFEST, io.BytesIO(data), len(data))
        self._output.write(bytes(2 * tarfile.BLOCKSIZE))

    def _add(self, path: str, file: IO[bytes], size: int) -> str:
        header = tarfile.TarInfo(path)
        header.size, header.mode, header.mtime = size, 0o600, self._made_at
        self._output.write(header.tobuf(tarfile.GNU_FORMAT, ENCODING))
        digest = hashlib.sha256()
        _copy(file, size, digest.update, self._output.write)
        self._output.write(bytes(-size % tarfile.BLOCKSIZE))
        return digest.hexdigest()


# --- reading ---


class Archive:
    """An archive, as far as its manifest and the names and sizes of its members are right.

    Attributes:
        contents: what the manifest says.

    Args:
        file: that can be read at any place.

    Raises:
        ArchiveError: it is none, is cut off, or has members that it must not have.
        OSError: it cannot be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        members = _members(file)
        *_, last = members
        if last != MANIFEST:
            raise ArchiveError(f"its last member is {last!r:.100}, not {MANIFEST}: it is cut off, or no backup")
        self._members = members
        self.contents = self._read_manifest(members.pop(MANIFEST))
        self._compare()

    def _read_manifest(self, member: _Member) -> Contents:
        if member.size > MAX_MANIFEST_BYTES:
            raise ArchiveError(f"{MANIFEST} has {member.size:,} bytes")
        self._file.seek(member.offset)
        data = self._file.read(member.size)
        try:
            version = msgspec.json.decode(data, type=_Format).format_version
            if version != FORMAT_VERSION:
                words = f"it has format {version}, this version of Trunkline reads {FORMAT_VERSION}"
                raise ArchiveError(f"{words}: use the version that made it, or a later one")
            return msgspec.json.decode(data, type=Contents)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ArchiveError(f"{MANIFEST} is not what this version of Trunkline writes: {error}") from error

    def _compare(self) -> None:
        named: set[str] = set()
        for stored in self.contents.files:
            member = self._members.get(stored.path)
            if stored.path in named:
                raise ArchiveError(f"{MANIFEST} names {stored.path!r:.200} twice")
            if member is None:
                raise ArchiveError(f"{stored.path!r:.200} is missing in it")
            if member.size != stored.bytes:
                raise ArchiveError(f"{stored.path!r:.200} has {member.size:,} bytes, not {stored.bytes:,}")
            named.add(stored.path)
        for path in self._members.keys() - named:
            raise ArchiveError(f"{MANIFEST} does not name its member {path!r:.200}")

    def copy_to(
        self, stored: ArchivedFile, output: IO[bytes], progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Copy a file out of the archive.

        Args:
            progress: called with the number of bytes that were copied since the last time.

        Raises:
            ArchiveError: it is not what was archived.
            OSError: one of the files.
        """
        digest = hashlib.sha256()
        member = self._members[stored.path]
        self._file.seek(member.offset)
        _copy(self._file, member.size, digest.update, output.write, lambda data: progress(len(data)))
        if digest.hexdigest() != stored.sha256:
            raise ArchiveError(f"{stored.path} is damaged: its SHA-256 is not that in {MANIFEST}")


class _Member(NamedTuple):
    offset: int
    size: int


def _members(file: IO[bytes]) -> dict[str, _Member]:
    """The members of a tar, in their order: plain files, each whole, with names that differ."""
    end = file.seek(0, io.SEEK_END)
    found: dict[str, _Member] = {}
    at = 0
    while True:
        file.seek(at)
        try:
            header = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), ENCODING, "strict")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # zeros
            break
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise ArchiveError(f"it is no backup, or damaged at byte {at:,}: {error}") from error
        at += tarfile.BLOCKSIZE
        if header.type != tarfile.REGTYPE:
            raise ArchiveError(f"its member {header.name!r:.200} is no plain file")
        if not 0 <= header.size <= end - at:
            raise ArchiveError(f"it is cut off: its member {header.name!r:.200} has {header.size:,} bytes")
        if header.name in found:
            raise ArchiveError(f"it has two members {header.name!r:.200}")
        if len(found) > MAX_FILES:
            raise ArchiveError(f"it has more than {MAX_FILES:,} files")
        found[header.name] = _Member(at, header.size)
        at += header.size + -header.size % tarfile.BLOCKSIZE
    if file.read(MAX_PADDING).strip(b"\0") or end - at > MAX_PADDING:
        raise ArchiveError(f"there is something behind its end, from byte {at:,} on")
    if not found:
        raise ArchiveError("it has no members")
    return found


def _copy(file: IO[bytes], size: int, *takers: Callable[[bytes], object]) -> None:
    """Read so many bytes, and give them to each taker.

    Raises:
        ArchiveError: there are not as many.
    """
    while size:
        data = file.read(min(size, COPIED_AT_ONCE))
        if not data:
            raise ArchiveError("a file became shorter while it was read")
        for take in takers:
            take(data)
        size -= len(data)
