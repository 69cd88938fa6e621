"""What the file of a backup may be, and what is left of it where it cannot be made."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("faiss")

from tests.cli.test_backup import archive, backup, data, require_done
from tests.support.command import COMMAND, requires_failure
from tests.support.hub import clean_environment
from tests.support.timing import START, eventually
from trunkline.storage.durable import whole_file

__all__ = ["archive", "data"]


@pytest.mark.parametrize("kind", ["collections", "jobs"])
@pytest.mark.parametrize("gone", ["empty", "link"])
def test_a_disk_that_is_not_mounted_costs_no_good_archive(data: Path, archive: Path, kind: str, gone: str) -> None:
    before = archive.read_bytes()
    shutil.rmtree(data / kind)
    if gone == "link":
        (data / kind).symlink_to(data / "not mounted")
        words = "it is a link to what is not there: is a disk not mounted?"
    else:
        words = f"is not replaced: it holds {kind}, and the new archive would not: is a disk not mounted?"
    requires_failure(backup(data, archive, "--replace"), 1, words)
    assert archive.read_bytes() == before


def test_what_is_no_ordinary_file_is_not_replaced(data: Path, archive: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    requires_failure(backup(data, tmp_path / "pipe", "--replace"), 1, "pipe: it is there, and no ordinary file")
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.tar").symlink_to(tmp_path / "elsewhere" / "target.tar")
    require_done(backup(data, tmp_path / "link.tar"))
    assert (tmp_path / "link.tar").is_symlink()
    assert (tmp_path / "elsewhere" / "target.tar").stat().st_size == archive.stat().st_size


def test_a_file_that_comes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def write() -> None:
        with whole_file(tmp_path / "file", replace=False) as output:
            output.write(b"mine")
            (tmp_path / "file").write_bytes(b"another's")

    with pytest.raises(FileExistsError, match="there is such a file now"):
        write()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"another's")]


def test_a_full_disk_behind_standard_output_is_told(data: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "backup", "-", "--data", str(data)], stdout=full, stderr=subprocess.PIPE, text=True,
            env=clean_environment(), timeout=START,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "trunkline: standard output: No space left on device: what was written so far is of no use\n",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    for name in range(40):
        shutil.copytree(data / "collections" / "c", data / "collections" / f"c{name}")  # of another name: left out
    command = [*COMMAND, "backup", str(tmp_path / "file.tar"), "--data", str(data)]
    with subprocess.Popen(command, env=clean_environment(), stderr=subprocess.DEVNULL) as running:
        eventually(
            lambda: (tmp_path / "file.tar.snapshot").exists() or running.poll() is not None, "it has begun", START
        )
        running.send_signal(number)
        assert running.wait(START) in (128 + number, 1), "or it was done just before"
    assert not list(tmp_path.glob("file.tar.*"))
