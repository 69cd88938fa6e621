"""What is on disk after a crash, a full disk, damage, or with a second owner. The faults are real ones."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.timing import PATIENCE
from trunkline.jobs.former import FormerFiles
from trunkline.jobs.job import Created, Failed, Job, Progressed, Started, Succeeded
from trunkline.jobs.store import JobStore, check_copy
from trunkline_protocol.errors import ErrorCode, RpcError

PARAMS = b'{"n":[1,2,3]}'
RESULT = b'"done"'


def created(number: int = 1, params: bytes = PARAMS) -> Created:
    return Created(
        id=f"{number:032x}",
        number=number,
        method="m",
        principal="ann",
        created_at=1,
        digest="d",
        size=len(params),
        crc=zlib.crc32(params),
    )


def opened(folder: Path) -> tuple[JobStore, list[Job]]:
    store = JobStore(folder)
    return store, store.open(99)


def made(folder: Path, *events: object, number: int = 1) -> str:
    """A job with some events; its id."""
    store, _ = opened(folder)
    job = created(number)
    store.create(job, PARAMS)
    for event in events:
        if isinstance(event, Succeeded):
            store.finish(job.id, event, RESULT)
        else:
            store.append(job.id, event, durable=True)  # type: ignore[arg-type]
    store.close()
    return job.id


def sql(folder: Path, query: str, *values: object) -> list[Any]:
    """What a query of the file gives that no store has open."""
    with closing(sqlite3.connect(folder / "jobs.sqlite")) as connection, connection:
        return connection.execute(query, values).fetchall()


def read(folder: Path) -> list[Job]:
    store, jobs = opened(folder)
    store.close()
    return jobs


def test_what_was_created_is_there_again(tmp_path: Path) -> None:
    made(tmp_path / "a" / "jobs")
    store, (job,) = opened(tmp_path / "a" / "jobs")
    assert (job.status, job.created) == ("queued", created())
    assert store.begin(job.created, Started(5)) == PARAMS
    store.append(job.id, Progressed(6, msgspec.Raw(b'{"done":1}')), durable=False)
    store.close()
    (job,) = read(tmp_path / "a" / "jobs")
    assert (job.status, job.attempts, bytes(job.progress or b"")) == ("queued", 1, b'{"done":1}')
    (job,) = read(tmp_path / "a" / "jobs")
    assert job.attempts == 1, "it was interrupted once"


def test_an_outcome_takes_the_params_away_and_keeps_the_result(tmp_path: Path) -> None:
    made(tmp_path, Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)))
    assert sql(tmp_path, "SELECT count(*) FROM params") == [(0,)]
    store, (job,) = opened(tmp_path)
    assert (job.status, store.result(job)) == ("succeeded", RESULT)
    store.forget([job.id])
    store.close()
    assert read(tmp_path) == []
    for table in ("jobs", "events", "params", "results"):
        assert sql(tmp_path, f"SELECT count(*) FROM {table}") == [(0,)]


def test_what_is_forgotten_gives_its_room_back(tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    for number in range(8):
        store.create(created(number, large := b"x" * 2**20), large)
    store.close()
    full = (tmp_path / "jobs.sqlite").stat().st_size
    store, jobs = opened(tmp_path)
    store.forget([job.id for job in jobs])
    store.close()
    assert (tmp_path / "jobs.sqlite").stat().st_size < full / 20


def test_tenant_and_principal_are_columns(tmp_path: Path) -> None:
    job_id = made(tmp_path)
    assert sql(tmp_path, "SELECT number, id, tenant, principal FROM jobs") == [(1, job_id, "default", "ann")]


DAMAGES = {
    "flipped": "UPDATE events SET event = CAST(replace(CAST(event AS TEXT), 'ann', 'bob') AS BLOB) WHERE job = ?",
    "no events": "DELETE FROM events WHERE job = ?",
    "no beginning": "DELETE FROM events WHERE job = ? AND position = 0",
    "wrong order": "UPDATE events SET position = 7 - position WHERE job = ?",
    "no bytes": "UPDATE events SET event = 1 WHERE job = ?",
    "no JSON": f"UPDATE events SET event = x'78', crc = {zlib.crc32(b'x')} WHERE job = ?",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_job_is_named_and_set_aside_and_others_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    made(tmp_path, number=2)
    job_id = made(tmp_path, Started(2), Failed(3, 1, {"code": 1}))
    sql(tmp_path, DAMAGES[damage], job_id)
    events = sql(tmp_path, "SELECT * FROM events")
    with caplog.at_level(logging.ERROR):
        jobs = read(tmp_path)
    assert [job.created.number for job in jobs] == [2]
    (record,) = caplog.records
    assert job_id in record.getMessage()
    assert [job.created.number for job in read(tmp_path)] == [2]
    assert caplog.records == [record], "it is named once"
    assert sql(tmp_path, "SELECT id FROM jobs WHERE damaged IS NOT NULL") == [(job_id,)]
    assert sql(tmp_path, "SELECT * FROM events") == events, "it stays as it was found"


def test_params_and_results_that_are_damaged_are_refused(tmp_path: Path) -> None:
    over = made(tmp_path, Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)))
    waiting = made(tmp_path, number=2)
    sql(tmp_path, "UPDATE results SET data = ? WHERE job = ?", b'"donE"', over)
    sql(tmp_path, "DELETE FROM params WHERE job = ?", waiting)
    store, jobs = opened(tmp_path)
    with pytest.raises(RpcError, match=f"the result of job {over} .* is not what was written"):
        store.result(jobs[0])
    with pytest.raises(RpcError, match=f"the params of job {waiting} .* are not what was written") as raised:
        store.begin(jobs[1].created, Started(5))
    assert not raised.value.retryable
    store.close()


def test_a_second_owner_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trunkline.jobs.store import JobStore\n"
        "store = JobStore(Path(sys.argv[1])); store.open(1); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(RpcError, match=f"process {other.pid} ") as raised:
            opened(tmp_path)
        assert raised.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
        other.kill()
        other.wait(PATIENCE)
    assert read(tmp_path) == []


FULL = """
import resource, signal, sys, zlib
from pathlib import Path
from tests.jobs.test_store import created
from trunkline.jobs.job import Cancelled
from trunkline.jobs.store import JobStore
from trunkline_protocol.errors import RpcError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = JobStore(Path(sys.argv[1]))
store.open(1)
params = b"[%b]" % (b"1," * 50_000)  # the log is longer now than what was written back of it
store.create(created(1, params), params)
size = (Path(sys.argv[1]) / "jobs.sqlite-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5000, resource.RLIM_INFINITY))  # the write stops in the middle
for action in (
    lambda: store.create(created(2, b"x" * 1000), b"x" * 1000),
    lambda: store.finish(created(1).id, Cancelled(3, 0, "ann"), None),
):
    try:
        action()
    except RpcError as error:
        print(error.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.finish(created(1).id, Cancelled(4, 0, "ann"), None)
"""


def test_a_full_disk_is_5002_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=6 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5002", "5002"]
    (job,) = read(tmp_path)
    assert (job.status, job.finished_at) == ("cancelled", 4)
    assert {each.name for each in tmp_path.iterdir()} == {"jobs.sqlite", "lock"}


WRITER = """
import sys, zlib
from pathlib import Path
from tests.jobs.test_store import RESULT, created
from trunkline.jobs.job import Started, Succeeded
from trunkline.jobs.store import JobStore

store = JobStore(Path(sys.argv[1]))
first = len(store.open(1)) + int(sys.argv[2])
for number in range(first, first + 100_000):
    job = created(number)
    store.create(job, b'{"n":[1,2,3]}')
    print("made", job.id, flush=True)
    store.begin(job, Started(2))
    store.finish(job.id, Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)), RESULT)
    print("done", job.id, flush=True)
"""


def test_what_was_acknowledged_is_there_after_any_kill(tmp_path: Path) -> None:
    """Killed at an instant nobody chose, again and again: no job is lost, no outcome, and nothing is damaged."""
    folder, said = tmp_path / "jobs", set()
    for kill in range(6):
        command = [sys.executable, "-c", WRITER, str(folder), str(1_000_000 * (kill + 1))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout is not None
            for _ in range(5 + 7 * kill):
                said.add(tuple(child.stdout.readline().split()))
            child.kill()
            said |= {tuple(line.split()) for line in child.stdout if line.endswith("\n")}
        store, jobs = opened(folder)
        known = {job.id: job for job in jobs}
        for word, job_id in said:
            job = known[job_id]
            if word == "done":
                assert store.result(job) == RESULT
            elif not job.is_over:
                assert store.begin(job.created, Started(4)) == PARAMS
        store.close()
        assert len(known) >= len({job_id for _, job_id in said})
        assert sql(folder, "SELECT count(*) FROM jobs WHERE damaged IS NOT NULL") == [(0,)]


def test_a_hub_whose_lock_was_removed_writes_nothing_any_more(tmp_path: Path) -> None:
    """Another one has the folder then, and runs these jobs."""
    first, _ = opened(tmp_path)
    first.create(job := created(), PARAMS)
    (tmp_path / "lock").unlink()
    second, (taken,) = opened(tmp_path)
    writes: list[Callable[[], None]] = [
        lambda: first.create(created(2), PARAMS),
        lambda: first.append(job.id, Started(5), durable=True),
        lambda: first.finish(job.id, Failed(3, 1, {"code": 1}), None),
    ]
    for write in writes:
        with pytest.raises(RpcError, match=r"is not this hub's any more: another one has it.*stop one") as raised:
            write()
        assert raised.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
    second.append(taken.id, Started(5), durable=True)
    first.close()
    second.close()
    assert [(each.id, each.attempts) for each in read(tmp_path)] == [(job.id, 1)]


def test_a_copy_is_read_job_by_job(tmp_path: Path) -> None:
    """Those that are damaged are named: events, the params of a job without an outcome, the result of another."""
    for number in range(1, 7):
        events = [Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT))] if number < 4 else []
        made(tmp_path, *events, number=number)
    made(tmp_path, Started(2), Failed(3, 1, {"code": 1}), number=7)
    path = tmp_path / "jobs.sqlite"
    assert check_copy(path, path) == (7, [])
    sql(tmp_path, "UPDATE events SET crc = 1 WHERE job LIKE '%1' AND position = 2")
    sql(tmp_path, "UPDATE results SET data = x'00' WHERE job LIKE '%2'")
    sql(tmp_path, "UPDATE results SET data = 1 WHERE job LIKE '%3'")
    sql(tmp_path, "DELETE FROM params WHERE job LIKE '%5'")
    sql(tmp_path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert check_copy(path, path) == (
        7,
        [
            f"job {1:032x}: event 3: it is not what was written",
            f"job {2:032x}: its result is not what was written",
            f"job {3:032x}: its result is not what was written",
            f"job {5:032x}: its params are not what was written",
        ],
    )


def test_files_of_an_older_version_are_told(tmp_path: Path) -> None:
    FormerFiles(tmp_path).require_none()
    (tmp_path / "a.job").touch()
    with pytest.raises(RpcError, match="are as an older version wrote them: a hub converts them when it starts"):
        FormerFiles(tmp_path).require_none()
