"""Archives: what was put in comes out, and of what was made to do harm, or is damaged, nothing does."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trunkline.storage.archive import (
    FORMAT_VERSION,
    MANIFEST,
    Archive,
    ArchivedFile,
    ArchiveError,
    ArchiveWriter,
    Contents,
    LeftOut,
)

PATH = "collections/books/collection.sqlite"
DATA = bytes(range(256)) * 5


def archived(data: bytes, path: str = PATH, **changes: Any) -> ArchivedFile:
    stored = ArchivedFile(path, "collection", "books", len(data), hashlib.sha256(data).hexdigest(), 3, 7)
    return msgspec.structs.replace(stored, **changes)


def contents(*files: ArchivedFile) -> Contents:
    return Contents(FORMAT_VERSION, "1.2.3", "2026-05-31T12:00:00Z", list(files), [LeftOut("jobs", "jobs", "why")])


def written(tmp_path: Path, *datas: bytes) -> tuple[io.BytesIO, Contents]:
    output = io.BytesIO()
    writer = ArchiveWriter(output, 1_000_000_000)
    files = []
    for number, data in enumerate(datas):
        (tmp_path / "source").write_bytes(data)
        path = f"{PATH}{number}"
        size, sha256 = writer.add(path, tmp_path / "source")
        files.append(archived(data, path))
        assert (size, sha256) == (files[-1].bytes, files[-1].sha256)
    writer.finish(made := contents(*files))
    return output, made


def taken_out(archive: Archive) -> list[bytes]:
    outputs = []
    for stored in archive.contents.files:
        archive.copy_to(stored, output := io.BytesIO())
        outputs.append(output.getvalue())
    return outputs


def test_what_is_put_in_comes_out_also_through_tar(tmp_path: Path) -> None:
    datas = [b"", b"x", b"y" * 512, DATA, b"z" * (2**20 + 1)]
    output, made = written(tmp_path, *datas)
    archive = Archive(output)
    assert archive.contents == made
    assert taken_out(archive) == datas
    output.seek(0)
    with tarfile.open(fileobj=output) as tar:
        assert [(each.name, each.mode, each.mtime) for each in tar][-1] == (MANIFEST, 0o600, 1_000_000_000)
        read = [tar.extractfile(stored.path) for stored in made.files]
        assert [each.read() for each in read if each is not None] == datas


def test_sizes_above_8_gib_are_written_and_read() -> None:
    header = tarfile.TarInfo("large")
    header.size = 2**40
    with pytest.raises(ArchiveError, match=r"cut off: its member 'large' has 1,099,511,627,776 bytes"):
        Archive(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT)))


def test_a_damaged_byte_anywhere_is_found(tmp_path: Path) -> None:
    output, _ = written(tmp_path, DATA, b"more")
    whole = output.getvalue()
    padding = whole.rstrip(b"\0")
    for at in range(0, len(padding), 7):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        try:
            archive = Archive(io.BytesIO(changed))
            found = taken_out(archive)
        except ArchiveError:
            continue
        # Padding, and what tells only when it was made, by what, and what is left out.
        assert found == [DATA, b"more"]
        assert [(each.path, each.sha256) for each in archive.contents.files] == [
            (each.path, each.sha256)
            for each in contents(archived(DATA, f"{PATH}0"), archived(b"more", f"{PATH}1")).files
        ]


def test_one_that_is_cut_off_anywhere_is_found(tmp_path: Path) -> None:
    output, _ = written(tmp_path, DATA, b"more")
    whole = output.getvalue()
    for size in range(0, len(whole) - 2 * tarfile.BLOCKSIZE, 129):
        with pytest.raises(ArchiveError):
            Archive(io.BytesIO(whole[:size]))


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def tar_of(change: Change, *, behind: bytes = b"", named: Contents | None = None) -> io.BytesIO:
    """A tar that the standard library writes, of one file and a manifest, changed before."""
    manifest = msgspec.json.encode(named or contents(archived(DATA)))
    members = [(tarfile.TarInfo(PATH), DATA), (tarfile.TarInfo(MANIFEST), manifest)]
    change(members)
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for header, data in members:
            if header.isreg():
                header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    output.seek(0, io.SEEK_END)
    output.write(behind)
    return output


def nothing(_members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    pass


def added(name: str, kind: bytes = tarfile.REGTYPE, *, data: bytes = b"") -> Change:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        header = tarfile.TarInfo(name)
        header.type = kind
        members.insert(0, (header, data))

    return change


def test_one_of_the_standard_library_is_read() -> None:
    assert taken_out(Archive(tar_of(nothing))) == [DATA]


HOSTILE = {
    "absolute": added("/etc/cron.d/evil", data=b"x"),
    "upwards": added("../../evil", data=b"x"),
    "not named": added("collections/more/collection.sqlite", data=b"x"),
    "twice": added(PATH, data=b"x"),
    "two manifests": added(MANIFEST, data=b"{}"),
    "link": added("collections/books", tarfile.SYMTYPE),
    "hard link": added("a", tarfile.LNKTYPE),
    "device": added("a", tarfile.CHRTYPE),
    "block device": added("a", tarfile.BLKTYPE),
    "pipe": added("a", tarfile.FIFOTYPE),
    "folder": added("collections", tarfile.DIRTYPE),
    "sparse": added("a", tarfile.GNUTYPE_SPARSE),
    "long name": added("a" * 300, data=b"x"),
    "no text": added("\udcff", data=b"x"),
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_what_no_backup_has_is_refused(harm: str) -> None:
    with pytest.raises(ArchiveError):
        Archive(tar_of(HOSTILE[harm]))


def test_a_header_that_asks_for_gigabytes_takes_no_memory() -> None:
    """The standard library would read as much as an extended header says that it has."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 2**34
    with pytest.raises(ArchiveError, match="is no plain file"):
        Archive(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + tar_of(nothing).getvalue()))


@pytest.mark.parametrize("size", [-1, -512, -(2**40)])
def test_a_size_below_zero_leads_nowhere(size: int) -> None:
    header = tarfile.TarInfo("a")
    header.size = size
    with pytest.raises(ArchiveError, match="cut off"):
        Archive(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def test_a_second_archive_behind_it_is_not_overlooked() -> None:
    assert taken_out(Archive(tar_of(nothing, behind=bytes(2**18)))) == [DATA]
    for behind in (tar_of(nothing).getvalue(), b"x", bytes(2**20 + 1)):
        with pytest.raises(ArchiveError, match="something behind its end"):
            Archive(tar_of(nothing, behind=behind))


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (contents(), f"does not name its member '{PATH}'"),
        (contents(archived(DATA), archived(DATA, "other")), "'other' is missing"),
        (contents(archived(DATA), archived(DATA)), "twice"),
        (contents(archived(DATA, bytes=1)), "has 1,280 bytes, not 1"),
        (contents(archived(DATA, bytes=-1)), "is not what this version of Trunkline writes"),
        (contents(archived(DATA, sha256="00")), "is not what this version of Trunkline writes"),
        (contents(archived(DATA, items=-3)), "is not what this version of Trunkline writes"),
        (msgspec.structs.replace(contents(), format_version=2), "it has format 2, this version of Trunkline reads 1"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(named: Contents, says: str) -> None:
    with pytest.raises(ArchiveError, match=says):
        Archive(tar_of(nothing, named=named))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"format_version": 1}',
        b"[" * 100_000,
        b'{"format_version": 1, "x": ' + b"[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(data: bytes) -> None:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[1] = (members[1][0], data)

    with pytest.raises(ArchiveError):
        Archive(tar_of(change))


def test_what_is_not_what_the_manifest_says_is_not_taken_for_it() -> None:
    archive = Archive(tar_of(nothing, named=contents(archived(DATA[::-1]))))
    with pytest.raises(ArchiveError, match=f"{PATH} is damaged: its SHA-256"):
        taken_out(archive)


@pytest.mark.parametrize("data", [b"", b"no tar", b"x" * 5000, bytes(1024)])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        Archive(io.BytesIO(data))
