"""The audit file is rotated by the hub: by size and age, without cutting or losing a line, whoever else writes it."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.timing import PATIENCE, START, eventually
from trunkline.observe.audit import AuditLog
from trunkline.observe.audit_file import AuditFile, Rotation

BY_SIZE = Rotation(max_bytes=1000, kept=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def line(number: int, length: int = 100) -> bytes:
    """A line that has this many bytes together with its line end, which the file adds."""
    return b'{"n":%d}' % number + b" " * (length - len(b'{"n":%d}' % number) - 1)


def newest_last(path: Path) -> list[Path]:
    old = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.suffix[1:]))
    return [*old, path]


def numbers(files: Iterable[Path]) -> list[int]:
    return [json.loads(text)["n"] for file in files for text in file.read_bytes().splitlines()]


def test_it_is_rotated_by_size_and_the_newest_are_kept(path: Path) -> None:
    file = AuditFile(path, BY_SIZE)
    for number in range(0, 100, 5):
        assert file.write([line(each) for each in range(number, number + 5)]) == (5, None)
    file.close()
    assert [each.name for each in newest_last(path)] == ["audit.log.3", "audit.log.2", "audit.log.1", "audit.log"]
    assert all(each.stat().st_size == 1000 for each in newest_last(path))
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in newest_last(path))
    assert numbers(newest_last(path)) == list(range(60, 100))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(10, 400), max_size=8), max_size=20), st.integers(100, 1000))
def test_no_line_is_cut_or_lost_or_out_of_order(tmp_path: Path, batches: list[list[int]], limit: int) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    path, count = tmp_path / "audit.log", itertools.count()
    file = AuditFile(path, Rotation(max_bytes=limit, kept=1000))
    for batch in batches:
        assert file.write([line(next(count), length) for length in batch]) == (len(batch), None)
    file.close()
    assert numbers(newest_last(path)) == list(range(next(count)))
    for each in newest_last(path):
        assert each.stat().st_size <= limit or each.read_bytes().count(b"\n") == 1


def test_a_gap_in_the_numbers_is_filled_and_nothing_deleted_before_its_time(path: Path) -> None:
    path.with_name("audit.log.2").write_bytes(line(1) + b"\n")
    path.with_name("audit.log.3").write_bytes(line(0) + b"\n")
    path.write_bytes(line(2, 1000) + b"\n")
    file = AuditFile(path, BY_SIZE)
    file.write([line(3)])
    file.close()
    assert numbers(newest_last(path)) == [0, 1, 2, 3]


def test_it_is_rotated_by_the_age_of_its_first_line_also_after_a_restart(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    rotation = Rotation(max_seconds=3600)
    log = AuditLog(path, rotation)
    log.event("first")
    log.close()
    for later, files in ((3599.0, 1), (3600.5, 2), (7199.0, 2), (7201.0, 3)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        log = AuditLog(path, rotation)
        log.event("later")
        log.close()
        assert len(newest_last(path)) == files


@pytest.mark.parametrize("text", [b"", b"not begun by a hub\n", b'{"time":"soon"}\n', b"\xff\n"])
def test_a_file_of_others_is_as_old_as_it_is_open(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    file = AuditFile(path, Rotation(max_seconds=3600))
    assert file.write([line(0)]) == (1, None)
    file.close()
    assert path.read_bytes() == text + line(0) + b"\n"


def test_what_a_killed_process_left_of_a_line_spoils_no_other(path: Path) -> None:
    path.write_bytes(line(0) + b"\n" + b'{"n":1')
    file = AuditFile(path, Rotation())
    file.write([line(2)])
    with path.open("ab") as other:
        other.write(b'{"n":3')
    file.write([line(4)])
    file.close()
    whole = path.read_bytes().split(b"\n")
    assert whole[1::2] == [b'{"n":1', b'{"n":3', b""]
    assert [json.loads(each)["n"] for each in whole[::2]] == [0, 2, 4]


def test_a_folder_in_which_nothing_can_be_renamed_loses_no_line(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.with_name("audit.log.1").mkdir()
    (path.with_name("audit.log.1") / "taken").touch()
    log = AuditLog(path, Rotation(max_bytes=4096, kept=1))
    for number in range(200):
        log.event("line", number=number)
    log.close()
    assert [json.loads(each)["number"] for each in path.read_bytes().splitlines()] == list(range(200))
    assert log.lost == 0
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.message == "audit log: no new file can be begun; going on in the old file"


def test_a_file_that_somebody_moved_is_not_followed(path: Path) -> None:
    file = AuditFile(path, Rotation())
    file.write([line(0)])
    path.rename(path.with_name("audit.log.1"))
    file.write([line(1)])
    file.close()
    assert numbers([path]) == [1]


def test_it_waits_while_another_process_writes(path: Path) -> None:
    log = AuditLog(path)
    other = os.open(path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    log.event("waits")
    eventually(lambda: not log._lines, "its thread has taken the line")
    assert path.read_bytes() == b""
    os.close(other)
    log.close()
    assert json.loads(path.read_bytes())["event"] == "waits"


WRITER = """
import sys, time
from pathlib import Path
from trunkline.observe.audit import AuditLog
from trunkline.observe.audit_file import Rotation
log = AuditLog(Path(sys.argv[1]), Rotation(max_bytes=32768, kept=10_000))
number = 0
while number < int(sys.argv[3]):
    log.event("line", writer=sys.argv[2], number=number)
    number += 1
    while number % 1000 == 0 and log._lines:
        time.sleep(0.001)  # so that the buffer is enough
log.close()
assert not log.lost
"""


def has_written(path: Path, writer: str) -> bool:
    """Whether a writer's lines are in any file so far; files are renamed while this looks."""
    for file in newest_last(path):
        with contextlib.suppress(FileNotFoundError):
            if f'"{writer}"'.encode() in file.read_bytes():
                return True
    return False


def test_many_writers_one_of_them_killed_cut_and_lose_no_line(path: Path) -> None:
    total, forever = 3000, 10**9
    command = [sys.executable, "-c", WRITER, str(path)]
    killed = subprocess.Popen([*command, "killed", str(forever)])
    others = [subprocess.Popen([*command, f"w{number}", str(total)]) for number in range(3)]
    try:
        eventually(lambda: has_written(path, "killed"), "it writes", START)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait(PATIENCE)
    assert [other.wait(START) for other in others] == [0, 0, 0]
    found: dict[str, list[int]] = defaultdict(list)
    torn = 0
    for each in newest_last(path):
        for text in each.read_bytes().splitlines():
            try:
                said = json.loads(text)
            except ValueError:
                torn += 1  # of the one that was killed, in the middle of its write
                continue
            found[said["writer"]].append(said["number"])
    assert torn <= 1
    assert [found[f"w{number}"] for number in range(3)] == [list(range(total))] * 3
    assert found["killed"] == list(range(len(found["killed"])))
    assert found["killed"]
