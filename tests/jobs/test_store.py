"""What is on disk after a crash, a full disk, damage, or with a second owner. The faults are real ones."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest

from tests.support.timing import PATIENCE
from trunkline.jobs.call import creator_of
from trunkline.jobs.files import checked_line, read_lines
from trunkline.jobs.job import Cancelled, Created, Failed, Job, Progressed, Started, Succeeded
from trunkline.jobs.store import JobStore
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


def made(folder: Path, *events: object, number: int = 1) -> Path:
    """A job with some events; its file."""
    store, _ = opened(folder)
    job = created(number)
    store.create(job, PARAMS)
    for event in events:
        if isinstance(event, Succeeded):
            store.finish(job.id, event, RESULT)
        else:
            store.append(job.id, event, durable=True)  # type: ignore[arg-type]
    store.close()
    return folder / f"{job.id}.job"


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


def test_a_job_of_an_earlier_version_is_of_the_default_tenant(tmp_path: Path) -> None:
    path = made(tmp_path)
    head, body = path.read_bytes()[:9], json.loads(path.read_bytes()[9:])
    assert (len(head), body.pop("tenant"), body.pop("claims")) == (9, "default", {})
    path.write_bytes(checked_line(json.dumps(body).encode()))
    (job,) = read(tmp_path)
    who = creator_of(job.created)
    assert (job.view().tenant, who.name, who.tenant, who.claims) == ("default", "ann", "default", {})


def test_an_outcome_takes_the_params_away_and_keeps_the_result(tmp_path: Path) -> None:
    made(tmp_path, Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)))
    store, (job,) = opened(tmp_path)
    assert (job.status, store.result(job)) == ("succeeded", RESULT)
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".job", ".result"}
    store.forget([job.id])
    store.close()
    assert read(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_tail_torn_at_any_byte_is_cut_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = made(tmp_path, Started(2), Failed(3, 1, {"code": 1}))
    whole = path.read_bytes()
    _, end = read_lines(whole[:-1])
    for size in range(end, len(whole)):
        path.write_bytes(whole[:size])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            (job,) = read(tmp_path)
        assert job.status == "queued"
        assert any(f"the last {size - end} bytes" in record.getMessage() for record in caplog.records) == (size > end)
        assert path.read_bytes().startswith(whole[:end])


@pytest.mark.parametrize("damage", ["flipped", "empty", "no job", "wrong order", "garbage"])
def test_a_damaged_job_is_named_and_set_aside_and_others_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    made(tmp_path, number=2)
    path = made(tmp_path, Started(2), Failed(3, 1, {"code": 1}))
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    path.write_bytes(
        {
            "flipped": data.replace(b'"ann"', b'"bob"'),
            "empty": b"",
            "no job": b"".join(lines[1:]),
            "wrong order": b"".join([lines[0], lines[2], lines[1]]),
            "garbage": bytes(range(256)) * 4,
        }[damage]
    )
    with caplog.at_level(logging.ERROR):
        jobs = read(tmp_path)
    assert [job.created.number for job in jobs] == [2]
    assert any(str(path) in record.getMessage() for record in caplog.records)
    assert {each.name for each in (tmp_path / "damaged").iterdir()} == {path.name, path.with_suffix(".params").name}


def test_what_no_job_belongs_to_is_removed(tmp_path: Path) -> None:
    path = made(tmp_path, Started(2), Cancelled(3, 1, "ann"))
    path.with_suffix(".params").write_bytes(PARAMS)  # the hub died between the outcome and this
    (tmp_path / f"{7:032x}.params").write_bytes(PARAMS)  # ... between params and job
    (tmp_path / f"{7:032x}.job.new").write_bytes(b"half")
    read(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "lock"}


def test_params_and_results_that_are_damaged_are_refused(tmp_path: Path) -> None:
    made(tmp_path, Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)))
    made(tmp_path, number=2)
    store, (over, waiting) = opened(tmp_path)
    (tmp_path / f"{over.id}.result").write_bytes(b'"donE"')
    (tmp_path / f"{waiting.id}.params").unlink()
    with pytest.raises(RpcError, match=r"\.result is not what was written"):
        store.result(over)
    with pytest.raises(RpcError, match=r"\.params is not what was written") as raised:
        store.begin(waiting.created, Started(5))
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
store.create(created(1), b'{"n":[1,2,3]}')
size = (Path(sys.argv[1]) / f"{1:032x}.job").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))  # the write stops in the middle
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
    assert {each.suffix for each in tmp_path.iterdir()} == {"", ".job"}


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
        assert not (folder / "damaged").exists()
