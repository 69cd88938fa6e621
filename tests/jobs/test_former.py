"""Folders that former versions have left: each job is taken over once, whole, or set aside."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

import msgspec
import pytest

from tests.jobs.test_store import PARAMS, RESULT, created, opened, read, sql
from trunkline.jobs.call import creator_of
from trunkline.jobs.job import Cancelled, Created, Event, Failed, Started, Succeeded
from trunkline_protocol.errors import ErrorCode, RpcError


def line(event: object) -> bytes:
    """An event as former versions wrote it."""
    data = event if isinstance(event, bytes) else msgspec.json.encode(event)
    return b"%08x %b\n" % (zlib.crc32(data), data)


def left(folder: Path, *events: Event, number: int = 1, first: Created | bytes | None = None) -> Path:
    """What a former version left of a job; the file of its events."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:032x}.job"
    path.write_bytes(b"".join(map(line, [first or created(number), *events])))
    if events and isinstance(events[-1], Succeeded):
        path.with_suffix(".result").write_bytes(RESULT)
    elif not (events and isinstance(events[-1], Failed | Cancelled)):
        path.with_suffix(".params").write_bytes(PARAMS)
    return path


def test_jobs_are_taken_over_whatever_their_state(tmp_path: Path) -> None:
    left(tmp_path, Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)), number=2)
    left(tmp_path, Started(2), number=3)
    left(tmp_path, number=1)
    left(tmp_path, Cancelled(3, 0, "ann"), number=4)
    for _again in range(2):
        store, jobs = opened(tmp_path)
        assert [job.created for job in jobs] == [created(number) for number in (1, 2, 3, 4)]
        assert [job.status for job in jobs] == ["queued", "succeeded", "queued", "cancelled"]
        assert [job.attempts for job in jobs] == [0, 1, 1, 0]
        assert store.result(jobs[1]) == RESULT
        store.close()
        assert {path.name for path in tmp_path.iterdir()} == {"jobs.sqlite", "lock"}
    store, jobs = opened(tmp_path)
    assert store.begin(jobs[0].created, Started(5)) == PARAMS
    store.close()


def test_a_tail_that_was_never_finished_is_left_out(tmp_path: Path) -> None:
    path = left(tmp_path / "whole", Started(2), Failed(3, 1, {"code": 1}))
    whole = path.read_bytes()
    last = len(line(Failed(3, 1, {"code": 1})))
    for size in range(len(whole) - last, len(whole), 7):
        folder = tmp_path / str(size)
        left(folder).write_bytes(whole[:size])
        (job,) = read(folder)
        assert (job.status, job.attempts) == ("queued", 1)


@pytest.mark.parametrize("damage", ["flipped", "empty", "no job", "wrong order", "garbage"])
def test_a_damaged_job_is_set_aside_and_others_are_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    left(tmp_path, number=2)
    path = left(tmp_path, Started(2))
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    path.write_bytes(
        {
            "flipped": data.replace(b'"ann"', b'"bob"'),
            "empty": b"",
            "no job": b"".join(lines[1:]),
            "wrong order": b"".join(reversed(lines)),
            "garbage": bytes(range(256)) * 4,
        }[damage]
    )
    with caplog.at_level(logging.ERROR):
        jobs = read(tmp_path)
    assert [job.created.number for job in jobs] == [2]
    assert any(str(path) in record.getMessage() for record in caplog.records)
    assert {each.name for each in (tmp_path / "damaged").iterdir()} == {path.name, path.with_suffix(".params").name}


def test_what_a_crash_between_commit_and_removal_leaves_is_removed_later(tmp_path: Path) -> None:
    path = left(tmp_path, Started(2))
    kept = path.read_bytes()
    (tmp_path / f"{7:032x}.params").write_bytes(PARAMS)  # of no job: the hub died between the two
    (tmp_path / f"{7:032x}.job.new").write_bytes(b"half")
    assert [job.attempts for job in read(tmp_path)] == [1]
    path.write_bytes(kept)
    path.with_suffix(".params").write_bytes(PARAMS)
    assert [job.attempts for job in read(tmp_path)] == [1], "it was interrupted once"
    assert {each.name for each in tmp_path.iterdir()} == {"jobs.sqlite", "lock"}


def test_a_file_that_cannot_be_read_takes_nothing_over(tmp_path: Path) -> None:
    left(tmp_path, number=2)
    (tmp_path / f"{1:032x}.job").mkdir()
    with pytest.raises(RpcError, match="Is a directory") as raised:
        read(tmp_path)
    assert raised.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
    assert (tmp_path / f"{2:032x}.job").exists()
    (tmp_path / f"{1:032x}.job").rmdir()
    assert [job.created.number for job in read(tmp_path)] == [2]


def test_a_job_of_before_tenants_is_of_the_default_tenant(tmp_path: Path) -> None:
    body = msgspec.json.decode(msgspec.json.encode(created()))
    for later in ("tenant", "claims", "rights"):
        del body[later]
    left(tmp_path, first=msgspec.json.encode(body))
    (job,) = read(tmp_path)
    who = creator_of(job.created)
    assert (job.view().tenant, who.name, who.tenant, who.claims) == ("default", "ann", "default", {})
    assert sql(tmp_path, "SELECT tenant FROM jobs") == [("default",)]
