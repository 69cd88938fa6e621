"""A check of all pages, which takes minutes where a file has many: a stop ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.jobs.test_store import RESULT, made
from tests.support.hub import clean_environment
from tests.support.timing import PATIENCE
from trunkline.jobs.job import Started, Succeeded
from trunkline.jobs.store import JobStore
from trunkline.storage import checking
from trunkline_protocol.errors import ErrorCode, RpcError

ENDLESS = "WITH RECURSIVE each(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM each) SELECT n FROM each WHERE n < 0"
"""In the place of the check: it ends when it is interrupted, and not before."""

ENDLESSLY = f"""
import sys, threading
from trunkline.storage import checking
from trunkline.cli.main import main
checking.CHECK = {ENDLESS!r}
check = checking.check_pages
def said(*given):
    print("checking", file=sys.stderr, flush=True)
    check(*given)
from trunkline.storage import database, snapshot
checking.check_pages = database.check_pages = snapshot.check_pages = said
main()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a job."""
    made(tmp_path / "jobs", Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)))
    return tmp_path


@contextmanager
def checking_in(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that looks through pages, and would not end by itself; it is killed behind the block."""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESSLY, *command], stderr=subprocess.PIPE, env=clean_environment(), text=True
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line == "checking\n":
                    break
            # What it says from now on is read, so that it need not wait for that.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_backup_that_looks_through_pages(
    data: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with checking_in("backup", str(tmp_path / "archive.tar"), "--data", str(data)) as process:
        process.send_signal(number)
        assert process.wait(5 * PATIENCE) == code
    assert not (tmp_path / "archive.tar").exists()


def test_a_hub_stops_while_it_looks_through_its_jobs(data: Path) -> None:
    with checking_in("serve", "--port", "0", "--executors", "1", "--packs", "", "--data", str(data)) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10 * PATIENCE) == 0


def test_opening_jobs_is_interrupted_and_says_so_and_what_comes_later_is_not(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JobStore(data / "jobs")
    with monkeypatch.context() as endless, ThreadPoolExecutor(1) as another:
        endless.setattr(checking, "CHECK", ENDLESS)
        opening = another.submit(store.open, 4)
        while not opening.done():
            store.interrupt_opening()
            wait([opening], 0.01)
        with pytest.raises(RpcError, match="it was given up, as the process stops") as told:
            opening.result()
    assert told.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
    store.interrupt_opening()
    (job,) = store.open(5)
    store.interrupt_opening()
    assert store.result(job) == RESULT
    store.close()
